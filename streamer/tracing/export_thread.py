"""The thread that builds and exports spans, behind a bounded queue."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Protocol

from prometheus_client import Counter
from structlog.typing import FilteringBoundLogger

from streamer.deadline import Deadline
from streamer.settings import Settings
from streamer.tracing.recording import Finished, Recorder
from streamer.tracing.span_tree import Span, SpanTree
from streamer.tracing.tracer import Tracer

MAX_QUEUED = 512
"""Finished requests and batches; each has about 3 KB."""
_BATCH_SPANS = 512
_DELAY_S = 1.0
PAUSE_S = 1e-4
"""While this thread builds and encodes, the event loop waits for the interpreter's lock, up to 5 ms. A pause after each
0.3 ms of work gives the lock to it."""
# Longer than a collector that answers needs; a worker that drains must not wait for one that does not.
_FLUSH_S = 2.0


class SpanExporter(Protocol):
    """Sends spans. All methods but `close` run in the thread of the export."""

    def export(self, spans: Sequence[Span]) -> bool:
        """Sends spans; returns whether the collector has accepted them. Blocks for a bounded time."""

    def close(self) -> None:
        """Ends a running `export` and each later one."""


@dataclass(slots=True, eq=False)
class ExportThread:
    """Builds and exports the spans of finished objects, in a thread of its own.

    1. `add` never waits; with a full queue it drops the object.
    2. Each span is counted once, as `exported`, `failed` or `dropped`.
    3. `stop` sends what is queued, and waits for at most 2 s.
    """

    build: Callable[[Finished], list[Span]]
    exporter: SpanExporter
    outcomes: Counter
    log: FilteringBoundLogger
    _queue: "SimpleQueue[Finished | None]" = field(default_factory=SimpleQueue)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def add(self, finished: Finished) -> None:
        """Queues a finished object."""
        if self._queue.qsize() < MAX_QUEUED:
            self._queue.put(finished)
        else:
            self.outcomes.labels("dropped").inc(finished.spans)

    async def stop(self, deadline: Deadline) -> None:
        """Sends what is queued, by `deadline` at the latest; then the thread ends."""
        self._queue.put(None)
        left = max(0.0, min(_FLUSH_S, deadline.remaining(time.monotonic())))
        await asyncio.to_thread(self._thread.join, left)
        self.exporter.close()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            spans, is_last = self._next()
            if spans:
                self._export(spans)

    def _next(self) -> tuple[list[Span], bool]:
        """The spans of the next export, and whether it is the last one."""
        spans: list[Span] = []
        until = 0.0
        while len(spans) < _BATCH_SPANS:
            try:
                finished = self._queue.get(timeout=max(0.0, until - time.monotonic()) if until else None)
            except Empty:
                break
            if finished is None:
                return spans, True
            until = until or time.monotonic() + _DELAY_S
            spans += self._built(finished)
            time.sleep(PAUSE_S)
        return spans, False

    def _built(self, finished: Finished) -> list[Span]:
        try:
            return self.build(finished)
        except Exception:
            # A defect in one request must not end the thread.
            self.outcomes.labels("failed").inc(finished.spans)
            self.log.exception("spans cannot be built")
            return []

    def _export(self, spans: Sequence[Span]) -> None:
        try:
            is_exported = self.exporter.export(spans)
        except Exception:
            self.log.exception("spans cannot be exported")
            is_exported = False
        self.outcomes.labels("exported" if is_exported else "failed").inc(len(spans))


@dataclass(frozen=True, slots=True)
class Tracing:
    """Samples requests, and exports the spans of those in the sample."""

    tracer: Tracer
    export: ExportThread


def traced(
    settings: Settings, exporter: SpanExporter, outcomes: Counter, log: FilteringBoundLogger, clock: Callable[[], float]
) -> Tracing:
    """The traces of one process; their thread is not started. `clock`: monotonic seconds."""
    names = (settings.kafka.group_id, settings.sink.topic, settings.sink.dead_letter_topic, settings.predictor.protocol)

    def build(finished: Finished) -> list[Span]:
        # The difference of the two clocks changes when the wall clock is set.
        epoch_ns = time.time_ns() - int(clock() * 1e9)
        return SpanTree(epoch_ns, recorder.new_id, *names).spans(finished)

    export = ExportThread(build, exporter, outcomes, log)
    recorder = Recorder(clock, export.add)
    return Tracing(Tracer(settings.tracing.share, recorder), export)
