"""The scorer: consumes bid requests, scores their candidates, publishes the scores.

    kafka.source -> codec -> features -> scoring (cache, batching, dispatcher) -> serving -> kafka.sink -> commit

    types, deadline, errors, access, latency, metrics, logs, tasks, settings/   shared by all packages
    distribution   version and extras of the installed package
    diagnosis/     bad settings of topics, group and model servers
    codec, salvage, features/, slices, prepared_version    bytes to values, requests to matrices, a version with both
    spec_sample/   a draft of a feature spec from a sample of requests
    kafka/         source, sink, offsets, delivery guarantees, dead letters, clients, topics
    http/          the endpoint for one request, its source and sink
    scoring/       cache, micro-batches, priors
    serving/       the client of TensorFlow Serving: calls, replicas, limit of calls, verification, warm-up
    rollout/       which version serves which user: a pure state machine, and the controller that executes its actions
    side_outputs/  shadow scores, feature log
    tracing/       spans of sampled requests, batches and calls; their export
    ops/           operations port, status page, supervisor and its worker processes
    pipeline       the path of one record, on one screen; in_flight: that record, and the ends of the path
    assembly       how the stages are connected
    lifecycle      states, signals and operations port of a process
    service        the work of one worker; http_service: of a process without Kafka
    commands/      the command line, one file for each command
    testing/       fakes and a virtual clock

A module imports only from lines of `docs/architecture.md`'s picture below its own; `make lint` checks it.
"""
