"""Drives the batch queue: RPC slots, timers, and one waiter for each request."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streamer.deadline import Deadline
from streamer.errors import PredictError, QueueFullError, VersionGoneError
from streamer.metrics import Metrics
from streamer.scoring.batching import Batch, BatchQueue, Rows, Ticket
from streamer.scoring.concurrency import ConcurrencyLimit
from streamer.types import F32, BatchInputs, EncodedRequest, ModelVersion

Predict = Callable[[ModelVersion, BatchInputs, Deadline], Awaitable[F32]]
Spawn = Callable[[Coroutine[Any, Any, None], str], object]
Clock = Callable[[], float]

OUT_OF_TIME = "its time was up"
"""Why scores of a request are missing that could be waited for no longer."""


@dataclass(slots=True, eq=False)
class PendingScores:
    """What one request has got back so far.

    Attributes:
        ctr: float32 [size of the request]; meaningful where `done`.
        reason: why rows are missing, once they are.
        left, replied: when its first rows left and its last ones came back, monotonic seconds.
        batch_rows: rows of the largest batch that it took part in.
        gone: whether rows are missing because the model server has not got the version any more.
    """

    ctr: F32
    done: np.ndarray[tuple[int], np.dtype[np.bool_]]
    remaining: int
    settled: asyncio.Future[None]
    reason: str | None = None
    left: float = 0.0
    replied: float = 0.0
    batch_rows: int = 0
    gone: bool = False

    def fill(self, rows: Rows, ctr: F32, now: float) -> None:
        """Takes the scores of some rows; settles the request with its last ones."""
        self.ctr[rows] = ctr
        self.done[rows] = True
        self.replied = now
        self._settle(len(rows))

    def fail(self, rows: Rows, reason: str, now: float) -> None:
        """Some rows will not come."""
        self.reason = reason
        self.replied = now
        self._settle(len(rows))

    def give_up(self, reason: str) -> None:
        """Waits no longer: the request's own time is up."""
        if not self.settled.done():
            self.reason = reason
            self.settled.set_result(None)

    def _settle(self, count: int) -> None:
        self.remaining -= count
        if not self.remaining and not self.settled.done():
            self.settled.set_result(None)


@dataclass(slots=True)
class Dispatcher:
    """Asks the model for rows in micro-batches, at most `slots` batches at a time, or as many as `limit` has learnt.

    Promise: `score` returns by the request's own deadline less `margin_s`, whatever the model server does, and never
    raises because of it. One caller's cancellation changes nothing for the others of its batch.
    """

    queue: BatchQueue
    predict: Predict
    spawn: Spawn
    clock: Clock
    metrics: Metrics
    slots: int
    margin_s: float
    limit: ConcurrencyLimit | None = None
    in_flight: int = 0
    _started: int = 0
    _pending: dict[Ticket, PendingScores] = field(default_factory=dict)
    _pump_due: bool = False
    _timer: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.metrics.queued_rows.set_function(lambda: self.queue.queued_rows)

    async def score(
        self,
        version: ModelVersion,
        encoded: EncodedRequest,
        rows: Rows,
        deadline: Deadline,
        *,
        worth: Callable[[], F32] | None = None,
    ) -> PendingScores:
        """Scores the candidates at positions `rows`, intp [k] with k > 0 and rising, as far as there is time.

        Where there is not time for all, those with the highest `worth()`, float32 [size of the request], go first.
        """
        loop = asyncio.get_running_loop()
        now = self.clock()
        ctr = np.zeros(encoded.size, dtype=np.float32)
        pending = PendingScores(ctr, np.zeros(encoded.size, dtype=np.bool_), len(rows), loop.create_future())
        ticket = Ticket(version, encoded, rows, deadline, now, worth)
        try:
            self.queue.add(ticket)
        except QueueFullError as error:
            pending.give_up(str(error))
            return pending
        self._pending[ticket] = pending
        time_up = loop.call_later(max(0.0, deadline.remaining(now) - self.margin_s), pending.give_up, OUT_OF_TIME)
        self._pump_soon()
        try:
            await pending.settled
        finally:
            time_up.cancel()
            self.queue.discard(ticket)
            del self._pending[ticket]
        return pending

    def would_miss_deadline(self, version: ModelVersion, deadline: Deadline) -> bool:
        """Whether a request that came now would not get its turn in time."""
        return self.queue.would_miss_deadline(version, deadline, self.clock(), calls=self._calls)

    def drain(self) -> None:
        """Holds nothing back for company any more."""
        self.queue.drain()
        self._pump_soon()

    @property
    def _calls(self) -> int:
        """Calls that may be in flight."""
        return self.slots if self.limit is None else self.limit.calls

    def _pump_soon(self) -> None:
        """Pumps once after the records that are being decoded now, so that they can share a batch."""
        if not self._pump_due:
            self._pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        while self.in_flight < self._calls:
            now = self.clock()
            for ticket, rows in self.queue.shed(now, idle=not self.in_flight):
                self.metrics.shed_rows.inc(len(rows))
                if (pending := self._pending.get(ticket)) is not None:
                    pending.fail(rows, "there was no time left to score it", now)
            batch = self.queue.take(now)
            if batch is None:
                self._wake_later(now)
                return
            self.in_flight += 1
            self.metrics.batch_left(batch.reason, batch.rows)
            for ticket, _ in batch.parts:
                pending = self._pending[ticket]
                pending.left = pending.left or now
                pending.batch_rows = max(pending.batch_rows, batch.rows)
            self.spawn(self._run(batch), "batch")

    def _wake_later(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wakeup = self.queue.next_wakeup()
        if wakeup is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wakeup - now), self._pump)

    async def _run(self, batch: Batch) -> None:
        start = self.clock()
        self._started += 1
        company, started = self.in_flight > 1, self._started
        try:
            ctr = await self.predict(batch.version, batch.inputs(), batch.deadline)
        except PredictError as error:
            self.metrics.predict_failed(error.code)
            if error.code == "DEADLINE_EXCEEDED":
                self.queue.latency(batch.version).exceeded(batch.rows, self.clock() - start)
            self._fail(batch, str(error), gone=isinstance(error, VersionGoneError))
        except BaseException:
            self._fail(batch, "the call was broken off")
            raise
        else:
            now = self.clock()
            self.queue.latency(batch.version).observe(batch.rows, now - start)
            self.metrics.predicted(now - start)
            if self.limit is not None:
                alone = not company and started == self._started
                self.limit.observe(batch.version, batch.rows, now - start, alone=alone)
                self.metrics.concurrency_limit.set(self.limit.calls)
            first = 0
            for ticket, rows in batch.parts:
                pending = self._pending.get(ticket)
                if pending is not None:
                    pending.fill(rows, ctr[first : first + len(rows)], now)
                first += len(rows)
        finally:
            self.in_flight -= 1
            self._pump_soon()

    def _fail(self, batch: Batch, reason: str, *, gone: bool = False) -> None:
        now = self.clock()
        for ticket, rows in batch.parts:
            pending = self._pending.get(ticket)
            if pending is not None:
                pending.gone |= gone
                pending.fail(rows, reason, now)
