"""Sends batches to the model server: limits concurrent calls, runs timers, settles requests."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streamer.deadline import Deadline
from streamer.errors import PredictError, QueueFullError, VersionGoneError
from streamer.metrics import Metrics
from streamer.scoring.batching import Batch, BatchQueue, Rows, Ticket
from streamer.scoring.cache import Bools
from streamer.settings.sections import BatchingSettings
from streamer.tasks import Spawn
from streamer.tracing.recording import BATCH, BatchTrace, RequestTrace
from streamer.types import F32, BatchInputs, ModelVersion

Predict = Callable[[ModelVersion, BatchInputs, Deadline], Awaitable[F32]]
"""Scores n rows, float32 [n]; NaN: the model has no valid score for that row."""

NO_VALID_SCORE = "the model returned no valid score"
"""The reason for missing scores when the model returned NaN or a number outside [0, 1] for some rows."""
DEADLINE_PASSED = "the deadline passed before the reply"
"""The reason for missing scores when a request has waited until its deadline."""


@dataclass(slots=True, eq=False)
class PendingScores:
    """The scores of one request that have arrived so far.

    Attributes:
        ctr: float32 [size of the request]; valid where `done`.
        done: bool [size of the request].
        remaining: rows that have neither arrived nor failed.
        settled: done soon after no row remains, or at the request's deadline.
        reason: why rows are missing.
        left, replied: when the first row left the queue and when the last reply came, monotonic seconds; 0: never.
        batch_rows: rows of the largest batch with rows of this request.
        gone: whether rows are missing because no model server has the version any more.
        overloaded: whether rows are missing because the queue or the model servers were full.
    """

    ctr: F32
    done: Bools
    remaining: int
    settled: asyncio.Future[None]
    reason: str | None = None
    left: float = 0.0
    replied: float = 0.0
    batch_rows: int = 0
    gone: bool = False
    overloaded: bool = False

    def fill(self, rows: Rows, ctr: F32, now: float) -> None:
        """Stores the scores of some rows; NaN: the row gets no score."""
        at: Rows | slice = slice(None) if len(rows) == len(self.ctr) else rows
        self.ctr[at] = ctr
        if math.isnan(np.add.reduce(ctr)):  # so is one of them
            self.done[at] = ~np.isnan(ctr)
            self.reason = NO_VALID_SCORE
        else:
            self.done[at] = True
        self._arrived(len(rows), now)

    def fail(self, rows: Rows, reason: str, now: float) -> None:
        """Records that some rows get no score."""
        self.reason = reason
        self._arrived(len(rows), now)

    def settle(self) -> None:
        """Ends the wait, if no row remains."""
        if not self.remaining and not self.settled.done():
            self.settled.set_result(None)

    def expire(self) -> None:
        """Ends the wait at the request's deadline."""
        if not self.settled.done():
            if self.remaining:
                self.reason = DEADLINE_PASSED
            self.settled.set_result(None)

    def _arrived(self, count: int, now: float) -> None:
        self.replied = now
        self.remaining -= count


class Concurrency(Protocol):
    """How many calls may be active; `Predictor` learns it from the servers."""

    def concurrency_limit(self) -> int:
        """The usual number."""

    def calls_allowed(self) -> int:
        """The number now, at least 1."""


@dataclass(frozen=True, slots=True)
class FixedConcurrency:
    """Always the same number of calls."""

    calls: int

    def concurrency_limit(self) -> int:
        """The number."""
        return self.calls

    calls_allowed = concurrency_limit


class Dispatcher:
    """Scores rows in micro-batches, in as many concurrent calls as the model servers allow.

    `score` returns at the latest `answer_margin_ms` before the request's deadline. No failure of the model server
    raises from it. If one caller is cancelled, the other requests of its batch are not affected.
    """

    def __init__(
        self,
        settings: BatchingSettings,
        predict: Predict,
        spawn: Spawn,
        clock: Callable[[], float],
        metrics: Metrics,
        *,
        concurrency: Concurrency | None = None,
    ) -> None:
        """`concurrency`: None for `max_concurrent_calls`."""
        self.predict = predict
        self.spawn = spawn
        self.clock = clock
        self.metrics = metrics
        self.queue = BatchQueue(settings)
        self.active_calls = 0
        self.concurrency = concurrency or FixedConcurrency(settings.max_concurrent_calls)
        self._pending: dict[Ticket, PendingScores] = {}
        self._pump_due = False
        self._timer: asyncio.TimerHandle | None = None
        metrics.queued_rows.set_function(lambda: self.queue.queued_rows)
        metrics.concurrency_limit.set_function(self.concurrency.concurrency_limit)

    async def score(self, ticket: Ticket) -> PendingScores:
        """Scores a new ticket's rows, one at least, as far as time allows."""
        loop = asyncio.get_running_loop()
        ctr = np.zeros(ticket.encoded.size, dtype=np.float32)
        pending = PendingScores(ctr, np.zeros(len(ctr), dtype=np.bool_), len(ticket.rows), loop.create_future())
        try:
            self.queue.add(ticket)
        except QueueFullError as error:
            pending.overloaded = True
            pending.fail(ticket.rows, str(error), ticket.added)
            return pending
        self._pending[ticket] = pending
        left = ticket.deadline.remaining(ticket.added) - self.queue.margin_s
        timer = loop.call_later(max(0.0, left), pending.expire)
        self._pump_soon()
        try:
            await pending.settled
        finally:
            timer.cancel()
            self.queue.discard(ticket)
            del self._pending[ticket]
        return pending

    def drain(self) -> None:
        """Ends the batch delay: queued rows leave as soon as a call may start."""
        self.queue.drain()
        self._pump_soon()

    def _pump_soon(self) -> None:
        """Schedules one pump at the end of this turn of the loop: records of one turn share a batch."""
        if not self._pump_due:
            self._pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Starts as many calls as the limit and the queue allow."""
        self._pump_due = False
        while (free := self.concurrency.calls_allowed() - self.active_calls) > 0:
            now = self.clock()
            shed = self.queue.shed(now, idle=not self.active_calls)
            if shed:
                self.metrics.shed_rows.inc(sum(len(rows) for _, rows in shed))
                self._fail(shed, "shed: no call would reply before the deadline", now, overloaded=True)
                self._settle(shed)
            batch = self.queue.next_batch(now, calls=free)
            if batch is None:
                self._wake_later(now)
                return
            self.active_calls += 1
            self.metrics.batch_left(batch.reason, batch.rows)
            traces = list[RequestTrace]()
            for ticket, _ in batch.parts:
                pending = self._pending[ticket]
                pending.left = pending.left or now
                pending.batch_rows = max(pending.batch_rows, batch.rows)
                if ticket.trace is not None:
                    traces.append(ticket.trace)
            self.spawn(self._call(batch, _traced(batch, traces) if traces else None), "batch")

    def _wake_later(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wakeup = self.queue.next_wakeup()
        if wakeup is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wakeup - now), self._pump)

    async def _call(self, batch: Batch, trace: BatchTrace | None) -> None:
        """Sends one batch; settles its requests when the next calls have left."""
        try:
            await self._predict(batch, trace)
            await self._start_next()
        finally:
            self._settle(batch.parts)

    async def _start_next(self) -> None:
        """Starts the calls that may start now, and lets them send their messages.

        Otherwise the model server would wait until the requests that it has just scored are answered.
        """
        active = self.active_calls
        self._pump()
        if self.active_calls > active:
            await asyncio.sleep(0)  # the tasks of the calls run,
            await asyncio.sleep(0)  # and then those in which gRPC sends their messages

    async def _predict(self, batch: Batch, trace: BatchTrace | None) -> None:
        """Calls the model with one batch, stores its scores, and updates the latency model."""
        start = self.clock()
        latency = self.queue.latency(batch.version)
        BATCH.set(trace)  # also if it is None: the task has copied the context of another batch
        try:
            ctr = await self.predict(batch.version, batch.inputs(), batch.deadline)
        except PredictError as error:
            now = self.clock()
            self.metrics.predict_failed(batch.version.name, error.code)
            if trace is not None:
                trace.error = error.code
            if error.code == "DEADLINE_EXCEEDED":
                latency.timed_out(batch.rows, now - start)
            is_full = error.code == "RESOURCE_EXHAUSTED"
            self._fail(batch.parts, str(error), now, gone=isinstance(error, VersionGoneError), overloaded=is_full)
        except BaseException:
            self._fail(batch.parts, "the call was cancelled or failed internally", self.clock())
            self._pump_soon()
            raise
        else:
            now = self.clock()
            latency.observe(batch.rows, now - start)
            self.metrics.predicted(now - start)
            first = 0
            for ticket, rows in batch.parts:
                if (pending := self._pending.get(ticket)) is not None:
                    pending.fill(rows, ctr[first : first + len(rows)], now)
                first += len(rows)
        finally:
            self.active_calls -= 1
            if trace is not None:
                trace.finish()

    def _settle(self, parts: Sequence[tuple[Ticket, Rows]]) -> None:
        for ticket, _ in parts:
            if (pending := self._pending.get(ticket)) is not None:
                pending.settle()

    def _fail(
        self,
        parts: Sequence[tuple[Ticket, Rows]],
        reason: str,
        now: float,
        *,
        gone: bool = False,
        overloaded: bool = False,
    ) -> None:
        for ticket, rows in parts:
            if (pending := self._pending.get(ticket)) is not None:
                pending.gone |= gone
                pending.overloaded |= overloaded
                pending.fail(rows, reason, now)


def _traced(batch: Batch, traces: Sequence[RequestTrace]) -> BatchTrace:
    """The trace of a batch that leaves now, with these sampled requests."""
    version, size = batch.version, len(batch.parts)
    return BatchTrace.of(traces, version.name, version.version, reason=batch.reason, rows=batch.rows, size=size)
