"""The spans of requests through the real stages and the scorer's client, on the virtual clock."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from streamer.testing.virtual_loop import run_virtual, virtual
from streamer.tracing.context import TraceContext, parent_in
from streamer.tracing.span_tree import PREDICT, Span
from streamer.types import DeadLetter
from tests.streamer.tracing.traced import ACKNOWLEDGED_S, CALL_S, WAITED_S, TracedWorker, seconds_of

PARENT = TraceContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, state="rojo=1")
HEADERS = [*PARENT.replaced_in([]), ("tracestate", PARENT.state.encode()), ("other", b"x")]


class BrokenScores:
    """Scores with a defect."""

    def would_miss_deadline(self, *_: object) -> bool:
        return False

    async def score(self, *_: object) -> None:
        raise ValueError("injected fault")


def named(spans: list[Span]) -> dict[str, Span]:
    found = {span.name: span for span in spans}
    assert len(found) == len(spans), Counter(span.name for span in spans)
    return found


@virtual
async def test_the_tree_of_a_request() -> None:
    worker = TracedWorker(cache=True)
    await worker.start()
    worker.request(*HEADERS)
    await worker.settle()
    spans = named(worker.spans)
    assert all(span.context.trace_id == PARENT.trace_id and span.context.state == "rojo=1" for span in spans.values())
    assert len({span.context.span_id for span in spans.values()}) == len(spans)
    names = {span.context.span_id: name for name, span in spans.items()} | {PARENT.span_id: "the bidder's"}
    parents = {name: names[span.parent.span_id] for name, span in spans.items() if span.parent is not None}
    request = "process requests"
    stages = ("ingest wait", "decode", "encode", "look up", "queue", "predict", "answer", "publish scores")
    assert parents == {
        request: "the bidder's",
        **dict.fromkeys(stages, request),
        "batch": "predict",
        PREDICT: "batch",
    }
    assert [seconds_of(spans[name]) for name in stages] == [WAITED_S, 0, 0, 0, 0, CALL_S, 0, ACKNOWLEDGED_S]
    assert seconds_of(spans[request]) == pytest.approx(WAITED_S + CALL_S + ACKNOWLEDGED_S)
    assert seconds_of(spans["batch"]) == seconds_of(spans[PREDICT]) == CALL_S
    for span in spans.values():
        assert spans[request].start <= span.start <= span.end <= spans[request].end
    attributes = {name: value for name, value in spans[request].attributes.items() if name.startswith("streamer")}
    assert attributes == {
        "streamer.request_id": "r0",
        "streamer.status": "ok",
        "streamer.candidates": 3,
        "streamer.model.name": "ctr",
        "streamer.model.version": 1,
        "streamer.batch_rows": 3,
        "streamer.deadline_left_ms": 491.0,
    }
    assert spans[request].attributes["messaging.kafka.offset"] == 0
    assert spans["look up"].attributes == {"hits": 0, "misses": 3}
    assert spans[PREDICT].attributes["server.address"] == "server"
    assert {span.kind for span in spans.values()} == {"consumer", "internal", "producer", "client"}


@virtual
async def test_calls_and_answers_carry_the_context_of_their_spans() -> None:
    worker = TracedWorker()
    await worker.start()
    worker.fakes.headers.clear()  # those of the preparation
    worker.request(*HEADERS)
    await worker.settle()
    spans = named(worker.spans)
    (of_call,) = worker.fakes.headers
    assert dict(of_call) == {"traceparent": spans[PREDICT].context.traceparent, "tracestate": "rojo=1"}
    assert parent_in(worker.headers[0]) == spans["publish scores"].context
    assert [name for name, _ in worker.headers[0]] == ["tracestate", "other", "traceparent"]


@virtual
async def test_a_batch_is_in_the_trace_of_its_first_sampled_request_and_linked_to_all() -> None:
    worker = TracedWorker()
    await worker.start()
    unsampled = TraceContext(9, 9, flags=0)
    for trace_id in (1, 2):
        worker.request(*TraceContext(trace_id, 7).replaced_in([]))
    worker.request(*unsampled.replaced_in([]))
    await worker.settle()
    (batch,) = (span for span in worker.spans if span.name == "batch")
    predicts = [span for span in worker.spans if span.name == "predict"]
    assert [span.context.trace_id for span in predicts] == [1, 2]
    assert batch.links == [span.context for span in predicts]
    assert batch.parent == predicts[0].context
    assert all(span.links == [batch.context] for span in predicts)
    assert (batch.attributes["streamer.batch.requests"], batch.attributes["streamer.batch.rows"]) == (3, 9)


@virtual
async def test_a_request_that_is_not_sampled_leaves_no_trace() -> None:
    worker = TracedWorker(share=0.0)
    await worker.start()
    unsampled = [("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")]
    worker.fakes.headers.clear()
    worker.request(*unsampled)
    worker.request(("other", b"x"))
    await worker.settle()
    assert worker.spans == []
    assert set(worker.fakes.headers) == {()}
    assert list(worker.headers[0]) == unsampled, "readers are told that the trace is not sampled"
    assert list(worker.headers[1]) == [("other", b"x")]


@virtual
async def test_no_batch_is_recorded_in_the_context_of_an_earlier_one() -> None:
    """A task copies the context of the task that starts it."""
    worker = TracedWorker(share=0.0)
    await worker.start()
    worker.request(*PARENT.replaced_in([]))
    await worker.settle()
    recorded = len(worker.spans)
    worker.fakes.headers.clear()
    for _ in range(20):  # more rows than one batch takes: the end of a call starts the next one
        worker.request()
    await worker.settle()
    assert len(worker.spans) == recorded
    assert set(worker.fakes.headers) == {()}


@virtual
async def test_a_retried_call_has_a_span_for_each_attempt() -> None:
    worker = TracedWorker()
    await worker.start()
    worker.fakes.faults.append("UNAVAILABLE")
    worker.request()
    (answer,) = await worker.settle()
    assert answer["status"] == "ok"
    calls = [span for span in worker.spans if span.name == PREDICT]
    assert [span.error for span in calls] == ["UNAVAILABLE", None]
    assert calls[0].end <= calls[1].start
    assert all(span.error is None for span in worker.spans if span.name != PREDICT)


@virtual
async def test_a_failed_batch_is_an_error_of_its_requests() -> None:
    worker = TracedWorker()
    await worker.start()
    worker.fakes.faults += ["INTERNAL"] * 9
    worker.request()
    (answer,) = await worker.settle()
    assert answer["status"] == "fallback"
    errors = {span.name: span.error for span in worker.spans if span.error is not None}
    assert errors == {"process requests": answer["reason"], "batch": "INTERNAL", PREDICT: "INTERNAL"}


@virtual
async def test_a_request_that_follows_another_has_the_wait_for_it() -> None:
    worker = TracedWorker(cache=True)
    await worker.start()
    worker.request()
    worker.request()
    await worker.settle()
    follow = [span for span in worker.spans if span.name == "follow"]
    assert [seconds_of(span) for span in follow] == [CALL_S]
    assert [span.attributes for span in worker.spans if span.name == "look up"] == [
        {"hits": 0, "misses": 3},
        {"hits": 0, "misses": 3},
    ]


@pytest.mark.parametrize(
    ("value", "status", "published"), [(b"{}", "dead_letter", "dead"), (b'{"request_id": "r0"}', "invalid", "scores")]
)
def test_a_request_that_cannot_be_scored_is_an_error(value: bytes, status: str, published: str) -> None:
    async def run() -> None:
        worker, letters = TracedWorker(), list[DeadLetter]()

        async def dead_letter(letter: DeadLetter) -> None:
            letters.append(letter)

        worker.dead_letter = dead_letter  # type: ignore[method-assign]
        await worker.start()
        worker.request(*HEADERS, value=value)
        await worker.tasks[0]
        spans = named(worker.spans)
        root = spans["process requests"]
        assert root.attributes["streamer.status"] == status
        assert root.error is not None
        assert f"publish {published}" in spans
        if letters:
            assert list(letters[0].headers) == HEADERS, "a dead letter is the record unchanged"

    run_virtual(run)


@virtual
async def test_log_lines_of_a_sampled_request_have_its_trace() -> None:
    worker = TracedWorker(share=0.0)
    await worker.start()

    worker.pipeline = replace(worker.pipeline, scores=BrokenScores())  # type: ignore[arg-type]
    with capture_logs() as lines:
        worker.request(*HEADERS)
        worker.request()
        await asyncio.gather(*worker.tasks)
    failed = {line["request_id"]: line.get("trace_id") for line in lines if line["event"] == "record failed"}
    assert failed == {"r0": f"{PARENT.trace_id:032x}", "r1": None}
    assert named(worker.spans)["process requests"].error == "internal error: ValueError('injected fault')"


@virtual
async def test_a_request_over_http_is_a_server_span_without_a_publication() -> None:
    worker = TracedWorker()
    await worker.start()
    worker.request(*HEADERS, topic="/v1/score")
    await worker.settle()
    spans = named(worker.spans)
    root = spans["POST /v1/score"]
    assert (root.kind, root.attributes["http.request.method"]) == ("server", "POST")
    assert seconds_of(spans["receive"]) == WAITED_S
    assert not [name for name in spans if name.startswith("publish")]
    assert parent_in(worker.headers[0]) == root.context
