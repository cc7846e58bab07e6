"""A stand-in for a collector of traces: takes OTLP over gRPC and keeps the spans in memory.

`python -m sandbox.collector PORT` serves until it is stopped.
"""

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import add_TraceServiceServicer_to_server

from sandbox.host.loopback import DIRECT


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as the collector got it.

    Ids are hexadecimal digits, times nanoseconds since the epoch. `parent_id` is empty for the first span of a trace;
    `links` are ids of spans; `error` is None if it has succeeded.
    """

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    start: int
    end: int
    attributes: Mapping[str, object]
    links: Sequence[str]
    error: str | None
    resource: Mapping[str, object]


class Collector:
    """A collector on a port of this machine, while its block lasts.

    Attributes:
        accepts: while it is not set, exports wait.
    """

    def __init__(self, port: int = 0) -> None:
        self.accepts = threading.Event()
        self.accepts.set()
        self._changed = threading.Condition()
        self._spans: list[ReceivedSpan] = []
        self._server = grpc.server(ThreadPoolExecutor(2), options=DIRECT)
        add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.accepts.set()
        self._server.stop(None).wait()

    def spans(
        self, are_complete: Callable[[Sequence[ReceivedSpan]], bool], timeout_s: float = 60.0
    ) -> list[ReceivedSpan]:
        """The spans, as soon as they are complete.

        Raises:
            TimeoutError: they are not complete in time; the message has their names.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: are_complete(self._spans), timeout_s):
                raise TimeoutError(f"spans so far: {[span.name for span in self._spans]}")
            return list(self._spans)

    def Export(self, request: Any, _: object) -> ExportTraceServiceResponse:  # noqa: N802  gRPC's name
        """Takes spans."""
        self.accepts.wait()
        with self._changed:
            for of_resource in request.resource_spans:
                resource = _attributes(of_resource.resource.attributes)
                self._spans += (_received(span, resource) for scope in of_resource.scope_spans for span in scope.spans)
            self._changed.notify_all()
        return ExportTraceServiceResponse()


def _received(span: Any, resource: Mapping[str, object]) -> ReceivedSpan:
    return ReceivedSpan(
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.trace_state,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _attributes(span.attributes),
        [link.span_id.hex() for link in span.links],
        span.status.message if span.status.code else None,
        resource,
    )


def _attributes(encoded: Any) -> dict[str, object]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in encoded}


def main() -> None:
    """Serves until the process is stopped."""
    with Collector(int(sys.argv[1])):
        threading.Event().wait()


if __name__ == "__main__":
    main()
