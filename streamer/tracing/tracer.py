"""Decides which requests are sampled. Pure."""

from dataclasses import dataclass
from typing import Final

from streamer.tracing.context import TraceContext, parent_in
from streamer.tracing.recording import Recorder, RequestTrace
from streamer.types import Record

_HTTP_PATH: Final = "/"
"""The start of the origin's topic of a request over HTTP: its path. No topic has such a name."""


@dataclass(frozen=True, slots=True)
class Tracer:
    """Samples as the request's parent does, and a share of the requests without a parent.

    1. A request whose `traceparent` is not sampled is not sampled.
    2. A request that is not sampled has no object, and its headers stay as they are.
    """

    share: float
    recorder: Recorder

    def begin(self, record: Record) -> RequestTrace | None:
        """The trace of a record that was just received; None if it is not sampled."""
        recorder, parent = self.recorder, parent_in(record.headers)
        if not (recorder.random.random() < self.share if parent is None else parent.is_sampled):
            return None
        root = TraceContext(recorder.new_id(128), 0) if parent is None else parent
        context, predicting, publishing = (root.child(recorder.new_id()) for _ in range(3))
        # A request over Kafka waits from its timestamp on, one over HTTP from its head on.
        start, is_http = record.deadline.start, record.origin.topic.startswith(_HTTP_PATH)
        return RequestTrace(recorder, context, parent, is_http, start, record.at, predicting, publishing)
