"""Traces: spans of sampled requests, of their batches, and of the calls to model servers.

Guarantees: an unsampled request has no object; a sampled one records times only, and its spans are built and sent by
another thread; the queue to it is bounded, and lost spans are counted.
In: the trace context of a record's headers, times of stages. Out: OTLP over gRPC, and contexts of calls and answers.
Imports settings, types and errors; only `otlp` imports OpenTelemetry, and only while tracing is on.
"""
