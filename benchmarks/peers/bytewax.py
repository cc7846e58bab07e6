"""Bytewax: batches of records, one call for each batch; it has no consumer group."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from benchmarks.peers.scoring import arguments_of, blocking_call, scoring_of


def main() -> None:
    arguments = arguments_of("workers", "per-call")
    scoring, call = scoring_of(arguments.model_server), blocking_call(arguments.model_server)

    def score(batch: tuple[str, list[Any]]) -> Iterable[Any]:
        _, messages = batch
        request, documents = scoring.request([message.value for message in messages])
        answers = scoring.answers(documents, call(request))
        for message, answer in zip(messages, answers, strict=True):
            yield KafkaSinkMessage(message.key, answer)

    flow = Dataflow("scores")
    source = kop.input(
        "requests",
        flow,
        brokers=[arguments.bootstrap],
        topics=[arguments.input],
        batch_size=arguments.per_call,
    )
    keyed = op.key_on("partition", source.oks, lambda message: str(message.partition))
    batches = op.collect("batch", keyed, timeout=timedelta(milliseconds=10), max_size=arguments.per_call)
    answers = op.flat_map("score", batches, score)
    kop.output("answers", answers, brokers=[arguments.bootstrap], topic=arguments.output, add_config={"linger.ms": "0"})
    cli_main(flow, workers_per_process=arguments.workers)


if __name__ == "__main__":
    main()
