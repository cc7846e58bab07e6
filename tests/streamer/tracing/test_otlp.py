"""Spans as a collector gets them, by the exporter of OpenTelemetry over gRPC."""

import socket
import time
from dataclasses import replace

import pytest
import structlog

from sandbox.collector import Collector
from streamer.deadline import Deadline
from streamer.errors import ConfigError
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.tracing.context import TraceContext
from streamer.tracing.export_thread import traced
from streamer.tracing.otlp import OtlpExporter
from streamer.tracing.recording import BatchTrace
from streamer.tracing.span_tree import Span

PARENT = TraceContext(0xA0, 0xB0, 1, "rojo=1")
SPAN = Span(
    "process requests",
    PARENT.child(0xC0),
    PARENT,
    1_000,
    2_000,
    {"text": "é", "count": 3, "ms": 0.5},
    "consumer",
    links=[TraceContext(0xA1, 0xB1)],
    error="late",
    is_remote=True,
)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def test_a_collector_gets_what_was_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    many = [replace(SPAN, name=f"s{i}", parent=None, error=None, links=()) for i in range(40)]
    with Collector() as collector:
        exporter = OtlpExporter(collector.endpoint, "host/worker-1")
        assert exporter.export([SPAN, *many])
        exporter.close()
        assert not exporter.export(many), "it is closed"
        found = collector.spans(lambda spans: len(spans) == 41)
    first = found[0]
    assert (first.trace_id, first.span_id, first.parent_id) == (f"{0xA0:032x}", f"{0xC0:016x}", f"{0xB0:016x}")
    assert (first.name, first.kind, first.state, first.error) == ("process requests", 5, "rojo=1", "late")
    assert (first.start, first.end, first.links) == (1_000, 2_000, [f"{0xB1:016x}"])
    assert first.attributes == {"text": "é", "count": 3, "ms": 0.5}
    assert first.resource["service.name"] == "ctr-streamer"
    assert first.resource["service.instance.id"] == "host/worker-1"
    assert first.resource["deployment.environment.name"] == "test"
    assert [(span.name, span.parent_id, span.error) for span in found[1:]] == [(f"s{i}", "", None) for i in range(40)]


def test_the_environment_names_collector_and_service(monkeypatch: pytest.MonkeyPatch) -> None:
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "bids")
        assert OtlpExporter(None, "x").export([SPAN])
        (span,) = collector.spans(lambda spans: len(spans) == 1)
    assert span.resource["service.name"] == "bids"


async def test_an_absent_collector_costs_only_the_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        exporter = OtlpExporter(f"http://127.0.0.1:{closed.getsockname()[1]}", "x")
        metrics = Metrics()
        tracing = traced(Settings(), exporter, metrics.spans, structlog.get_logger(), time.monotonic)
        tracing.export.start()
        recorder = tracing.tracer.recorder
        BatchTrace(recorder, PARENT, [PARENT], "ctr", 1, "full", 1, 1, recorder.clock()).finish()
        await tracing.export.stop(Deadline.after(time.monotonic(), 30_000))
    assert metrics.registry.get_sample_value("streamer_tracing_spans_total", {"outcome": "failed"}) == 1


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")
    with pytest.raises(ConfigError, match=r"tracing: a variable OTEL_… cannot be used: .*'soon'"):
        OtlpExporter("http://localhost:4317", "x")


def test_a_password_in_a_variable_is_rejected_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:secret@localhost:4317")
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_HEADERS") as found:
        OtlpExporter(None, "x")
    assert "secret" not in str(found.value)
