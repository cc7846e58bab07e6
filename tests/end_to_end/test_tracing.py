"""Traces of requests from Kafka: a context comes with the record, spans go to a collector, the answer has a context."""

import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise

import pytest

from sandbox.collector import Collector, ReceivedSpan
from tests.end_to_end.conftest import ANSWER_S, System, request

pytestmark = [pytest.mark.kafka, pytest.mark.tensorflow, pytest.mark.slow]
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def of(trace: str, spans: Sequence[ReceivedSpan]) -> dict[str, ReceivedSpan]:
    return {span.name: span for span in spans if span.trace_id == trace}


def test_a_traced_request(system: System) -> None:
    with Collector() as collector:
        tracing = {"tracing__enabled": True, "tracing__endpoint": collector.endpoint, "tracing__share": 0.0}
        with system.scorer(**tracing, supervisor__workers=1, supervisor__standby=0) as scorer:
            for flag in ("01", "00"):
                context = f"00-{TRACE if flag == '01' else TRACE[::-1]}-{SPAN}-{flag}"
                headers = [("traceparent", context.encode()), ("tracestate", b"rojo=1")]
                system.send([request(f"r{flag}")], headers=headers)
            system.send([request("alone")])
            answers = {one.json["request_id"]: one for one in system.read(system.scores, 3, ANSWER_S)}
            assert scorer.stop() == 0
        spans = of(TRACE, collector.spans(lambda found: "batch" in of(TRACE, found)))
        everything = collector.spans(bool)
    assert {span.trace_id for span in everything} == {TRACE}
    root = spans[f"process {system.requests}"]
    assert (root.parent_id, root.state) == (SPAN, "rojo=1")
    assert root.attributes["streamer.request_id"] == "r01"
    assert root.attributes["messaging.kafka.offset"] == 0
    stages = ("ingest wait", "decode", "encode", "look up", "queue", "predict", "answer", f"publish {system.scores}")
    assert all(spans[name].parent_id == root.span_id for name in stages)
    for earlier, later in pairwise(stages):
        assert spans[earlier].start <= spans[earlier].end <= spans[later].start + 1000, (earlier, later)
    call = spans["tensorflow.serving.PredictionService/Predict"]
    assert (spans["batch"].parent_id, call.parent_id) == (spans["predict"].span_id, spans["batch"].span_id)
    assert answers["r01"].headers["traceparent"] == f"00-{TRACE}-{spans[stages[-1]].span_id}-01".encode()
    assert answers["r00"].headers["traceparent"].endswith(b"-00")
    assert "traceparent" not in answers["alone"].headers
    assert str(root.resource["service.instance.id"]).endswith("/ctr-streamer-0")


def test_without_traces_nothing_of_opentelemetry_is_imported() -> None:
    program = (
        "import sys, streamer.service, streamer.http_service, streamer.commands;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
