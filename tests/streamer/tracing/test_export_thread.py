"""The queue between the requests and the export of their spans."""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from random import Random

import pytest
import structlog

from streamer.deadline import Deadline
from streamer.metrics import Metrics
from streamer.tracing import export_thread
from streamer.tracing.context import TraceContext
from streamer.tracing.export_thread import MAX_QUEUED, ExportThread
from streamer.tracing.recording import BatchTrace, Finished, Recorder
from streamer.tracing.span_tree import Span

WAIT_S = 30.0


class Exporter:
    """A collector that answers when `accepts` is set; `outcome` is its answer or its fault."""

    def __init__(self) -> None:
        self.accepts, self.asked, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.outcome: bool | Exception = True
        self.spans: list[Span] = []

    def export(self, spans: Sequence[Span]) -> bool:
        self.asked.set()
        while not self.accepts.wait(0.01):
            if self.closed.is_set():
                return False
        if isinstance(self.outcome, Exception):
            raise self.outcome
        self.spans += spans
        return self.outcome

    def close(self) -> None:
        self.closed.set()


class Rig:
    """A thread with a collector, and batches of one span."""

    def __init__(self) -> None:
        self.exporter, self.metrics = Exporter(), Metrics()
        self.recorder = Recorder(lambda: 0.0, lambda _: None, Random(1))
        self.thread = ExportThread(self.build, self.exporter, self.metrics.spans, structlog.get_logger())
        self.thread.start()

    def build(self, finished: Finished) -> list[Span]:
        if finished.context.flags == 0:
            raise ValueError("injected fault")
        return [Span("batch", finished.context, None, 0, 1, {})]

    def add(self, count: int = 1, flags: int = 1) -> None:
        for _ in range(count):
            context = TraceContext(1, self.recorder.new_id(), flags)
            self.thread.add(BatchTrace(self.recorder, context, [context], "ctr", 1, "full", 1, 1, 0.0))

    async def stop(self, seconds: float = WAIT_S) -> None:
        await self.thread.stop(Deadline.after(time.monotonic(), 1e3 * seconds))

    @property
    def counts(self) -> list[float | None]:
        """Exported, failed, dropped."""
        value = self.metrics.registry.get_sample_value
        return [value("streamer_tracing_spans_total", {"outcome": o}) for o in ("exported", "failed", "dropped")]


async def test_a_stop_sends_what_is_queued() -> None:
    rig = Rig()
    rig.exporter.accepts.set()
    rig.add(100)
    await rig.stop()
    assert len({span.context.span_id for span in rig.exporter.spans}) == 100
    assert rig.counts == [100, 0, 0]


async def test_a_collector_that_does_not_answer_delays_neither_a_request_nor_a_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export_thread, "_DELAY_S", 0.01)
    monkeypatch.setattr(export_thread, "_FLUSH_S", 0.05)
    rig = Rig()
    rig.add()
    await asyncio.to_thread(rig.exporter.asked.wait, WAIT_S)
    rig.add(MAX_QUEUED + 7)
    assert rig.counts == [0, 0, 7]
    await rig.stop()
    rig.thread._thread.join(WAIT_S)  # noqa: SLF001
    assert rig.counts == [0, 1 + MAX_QUEUED, 7], "each span is counted once"


@pytest.mark.parametrize("outcome", [False, ValueError("injected fault")])
async def test_spans_that_are_not_accepted_are_counted(outcome: bool | Exception) -> None:
    rig = Rig()
    rig.exporter.outcome = outcome
    rig.exporter.accepts.set()
    rig.add(3)
    await rig.stop()
    assert rig.counts == [0, 3, 0]


async def test_a_span_that_cannot_be_built_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.exporter.accepts.set()
    with caplog.at_level(logging.CRITICAL):
        rig.add(flags=0)
        rig.add()
        await rig.stop()
    assert rig.counts == [1, 1, 0]
