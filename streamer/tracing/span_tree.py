"""Builds the spans of finished requests and batches from their recorded times. Pure.

Names and attributes follow the semantic conventions of OpenTelemetry for messaging, HTTP and RPC where they have one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from streamer.tracing.context import TraceContext
from streamer.tracing.outcomes import DEAD, Outcome
from streamer.tracing.recording import Attributes, BatchTrace, Call, Finished, RequestTrace, Stage

Kind = Literal["internal", "server", "client", "producer", "consumer"]
PREDICT: Final = "tensorflow.serving.PredictionService/Predict"
_OK: Final = "OK"


@dataclass(frozen=True, slots=True)
class Span:
    """A span.

    Attributes:
        start, end: nanoseconds since the epoch.
        error: why it has failed; None if it has not.
        is_remote: whether the parent is a span of another process.
    """

    name: str
    context: TraceContext
    parent: TraceContext | None
    start: int
    end: int
    attributes: Attributes
    kind: Kind = "internal"
    links: Sequence[TraceContext] = ()
    error: str | None = None
    is_remote: bool = False


@dataclass(frozen=True, slots=True)
class SpanTree:
    """Builds spans.

    Attributes:
        epoch_ns: nanoseconds since the epoch at second 0 of the monotonic clock.
        new_id: returns a random id of a span.
        group: the consumer group; answers, dead_letters: the topics.
        protocol: that of the calls.
    """

    epoch_ns: int
    new_id: Callable[[], int]
    group: str
    answers: str
    dead_letters: str
    protocol: str

    def spans(self, finished: Finished) -> list[Span]:
        """All spans of a request, or of a batch and its calls."""
        return self._of_request(finished) if isinstance(finished, RequestTrace) else self._of_batch(finished)

    def _of_request(self, trace: RequestTrace) -> list[Span]:
        outcome = trace.outcome
        assert outcome is not None, "finished"
        is_http, topic = trace.is_http, outcome.origin.topic
        request = Span(
            f"POST {topic}" if is_http else f"process {topic}",
            trace.context,
            trace.parent,
            self._ns(trace.start),
            self._ns(trace.end),
            {**(_http(outcome) if is_http else self._kafka(outcome)), **_scored(outcome, trace.left_ms)},
            "server" if is_http else "consumer",
            error=None if outcome.status == "ok" else outcome.reason or outcome.status,
            is_remote=trace.parent is not None,
        )
        wait = [Stage("receive" if is_http else "ingest wait", trace.start, trace.at, {})] * (trace.at > trace.start)
        ids = {"predict": trace.predicting, "publish": trace.publishing}
        return [request, *(self._of_stage(trace, outcome, stage, ids) for stage in [*wait, *trace.stages])]

    def _of_stage(self, trace: RequestTrace, outcome: Outcome, stage: Stage, ids: dict[str, TraceContext]) -> Span:
        # A request that is scored again has some stages twice; its calls are below the first one.
        context = ids.pop(stage.name, None) or trace.context.child(self.new_id())
        start, end = self._ns(stage.start), self._ns(stage.end)
        if stage.name == "publish":
            topic = self.dead_letters if outcome.status == DEAD else self.answers
            attributes: Attributes = {
                "messaging.system": "kafka",
                "messaging.operation.type": "send",
                "messaging.operation.name": "publish",
                "messaging.destination.name": topic,
            }
            return Span(f"publish {topic}", context, trace.context, start, end, attributes, "producer")
        links = trace.batches if stage.name == "predict" else ()
        return Span(stage.name, context, trace.context, start, end, stage.attributes, links=links)

    def _of_batch(self, batch: BatchTrace) -> list[Span]:
        attributes: Attributes = {
            "streamer.model.name": batch.model,
            "streamer.model.version": batch.version,
            "streamer.batch.rows": batch.rows,
            "streamer.batch.requests": batch.size,
            "streamer.batch.reason": batch.reason,
        }
        start, end = self._ns(batch.start), self._ns(batch.end)
        parent, links = batch.requests[0], batch.requests
        span = Span("batch", batch.context, parent, start, end, attributes, links=links, error=batch.error)
        return [span, *(self._of_call(batch, call) for call in batch.calls)]

    def _of_call(self, batch: BatchTrace, call: Call) -> Span:
        host, _, port = call.address.rpartition(":")
        attributes: dict[str, str | float] = {
            "rpc.system": self.protocol,
            "rpc.service": PREDICT.partition("/")[0],
            "rpc.method": PREDICT.partition("/")[2],
            "server.address": host or call.address,
        }
        if port.isdecimal():
            attributes["server.port"] = int(port)
        error = None
        if call.code != _OK:
            attributes["error.type"] = error = call.code
        start, end = self._ns(call.start), self._ns(call.end)
        return Span(PREDICT, call.context, batch.context, start, end, attributes, "client", error=error)

    def _kafka(self, outcome: Outcome) -> Attributes:
        origin = outcome.origin
        return {
            "messaging.system": "kafka",
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.destination.name": origin.topic,
            "messaging.destination.partition.id": str(origin.partition),
            "messaging.kafka.offset": origin.offset,
            "messaging.consumer.group.name": self.group,
            "messaging.message.body.size": outcome.body_bytes,
        }

    def _ns(self, at: float) -> int:
        return self.epoch_ns + int(at * 1e9)


def _http(outcome: Outcome) -> Attributes:
    return {
        "http.request.method": "POST",
        "http.route": outcome.origin.topic,
        "url.path": outcome.origin.topic,
        "http.request.body.size": outcome.body_bytes,
    }


def _scored(outcome: Outcome, left_ms: float | None) -> Attributes:
    found = {
        "streamer.request_id": outcome.request_id,
        "streamer.status": outcome.status,
        "streamer.candidates": outcome.candidates,
        "streamer.model.name": outcome.model,
        "streamer.model.version": outcome.version,
        "streamer.batch_rows": outcome.batch_rows or None,
        "streamer.deadline_left_ms": None if left_ms is None else round(left_ms, 3),
    }
    return {name: value for name, value in found.items() if value is not None}
