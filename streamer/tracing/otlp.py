"""Exports spans by OTLP over gRPC. The only file that imports OpenTelemetry."""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlparse

from opentelemetry.exporter.otlp.proto.grpc import exporter, trace_exporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as EncodedResource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, SpanFlags, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as EncodedSpan
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace.export import SpanExportResult

from streamer.errors import ConfigError
from streamer.settings.hosts import is_loopback
from streamer.tracing.export_thread import PAUSE_S
from streamer.tracing.span_tree import Kind, Span

_NAME: Final = "ctr-streamer"
_DEFAULT_ENDPOINT: Final = "http://localhost:4317"
_KINDS: Mapping[Kind, "EncodedSpan.SpanKind.ValueType"] = {
    "internal": EncodedSpan.SPAN_KIND_INTERNAL,
    "server": EncodedSpan.SPAN_KIND_SERVER,
    "client": EncodedSpan.SPAN_KIND_CLIENT,
    "producer": EncodedSpan.SPAN_KIND_PRODUCER,
    "consumer": EncodedSpan.SPAN_KIND_CONSUMER,
}
_LOCAL = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_REMOTE = _LOCAL | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
# Encoded in 0.3 ms.
_SLICE: Final = 16


class _EncodedExporter(trace_exporter.OTLPSpanExporter):
    """Sends a message that is complete: the spans of the SDK take four times the CPU time."""

    def _translate_data(self, data: Any) -> Any:
        return data

    def _count_data(self, data: Any) -> int:
        return len(data.resource_spans[0].scope_spans[0].spans)


class OtlpExporter:
    """The exporter of one process.

    Attributes:
        endpoint: the URL of the collector.
    """

    def __init__(self, endpoint: str | None, instance: str) -> None:
        """`endpoint`: None for that of the environment; `instance` names this process.

        Raises:
            ConfigError: a variable of OpenTelemetry has a value that cannot be used.
        """
        found = os.environ.get(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) or os.environ.get(OTEL_EXPORTER_OTLP_ENDPOINT)
        self.endpoint = endpoint or found or _DEFAULT_ENDPOINT
        if "@" in self.endpoint:
            raise ConfigError(
                "tracing: OTEL_EXPORTER_OTLP_ENDPOINT: expected no user and password: set OTEL_EXPORTER_OTLP_HEADERS"
            )
        # Its warnings name each retry; an error names each export that has failed.
        logging.getLogger(exporter.__name__).setLevel(logging.ERROR)
        try:
            # No proxy can reach this machine's own collector for it.
            is_here = is_loopback(urlparse(self.endpoint).hostname or "")
            options: Any = (("grpc.enable_http_proxy", 0),) if is_here else None
            self._exporter = _EncodedExporter(self.endpoint, channel_options=options)
            self._resource = EncodedResource(attributes=_encoded(_resource(instance).attributes))
        except Exception as error:
            raise ConfigError(f"tracing: a variable OTEL_… cannot be used: {error}") from error

    def export(self, spans: Sequence[Span]) -> bool:
        """Sends spans; returns whether the collector has accepted them within its timeout (10 s)."""
        scope = ScopeSpans(scope=InstrumentationScope(name="streamer"))
        for first in range(0, len(spans), _SLICE):
            scope.spans.extend(map(_encoded_span, spans[first : first + _SLICE]))
            time.sleep(PAUSE_S)
        of_process = ResourceSpans(resource=self._resource, scope_spans=[scope])
        message: Any = ExportTraceServiceRequest(resource_spans=[of_process])
        return self._exporter.export(message) is SpanExportResult.SUCCESS

    def close(self) -> None:
        """Ends a running `export`; each later one fails at once."""
        self._exporter.shutdown()


def _encoded_span(span: Span) -> EncodedSpan:
    context, parent = span.context, span.parent
    return EncodedSpan(
        trace_id=_trace_id(context.trace_id),
        span_id=_span_id(context.span_id),
        trace_state=context.state,
        parent_span_id=b"" if parent is None else _span_id(parent.span_id),
        name=span.name,
        kind=_KINDS[span.kind],
        start_time_unix_nano=span.start,
        end_time_unix_nano=span.end,
        attributes=_encoded(span.attributes),
        links=[
            EncodedSpan.Link(trace_id=_trace_id(link.trace_id), span_id=_span_id(link.span_id), flags=_LOCAL)
            for link in span.links
        ],
        status=None if span.error is None else Status(code=Status.STATUS_CODE_ERROR, message=span.error),
        flags=context.flags | (_REMOTE if span.is_remote else _LOCAL),
    )


def _encoded(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_encoded_value(value)) for name, value in attributes.items()]


def _encoded_value(value: object) -> AnyValue:
    if isinstance(value, int):
        return AnyValue(int_value=value)
    return AnyValue(double_value=value) if isinstance(value, float) else AnyValue(string_value=str(value))


def _trace_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def _span_id(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _resource(instance: str) -> Resource:
    """OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME, with the name of this process."""
    found = Resource.create({SERVICE_INSTANCE_ID: instance})
    if str(found.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        found = found.merge(Resource({SERVICE_NAME: _NAME}))
    return found
