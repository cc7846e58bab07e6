"""Micro-batches of rows, across requests. Pure: it decides, the dispatcher acts."""

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from streamer.deadline import Deadline
from streamer.errors import QueueFullError
from streamer.scoring.latency import LatencyModel, LatencyModels
from streamer.settings.sections import BatchingSettings
from streamer.types import F32, BatchInputs, EncodedRequest, ModelVersion

Reason = Literal["slot_free", "full", "deadline", "drain"]
Rows = npt.NDArray[np.intp]
# A call may take this much longer than expected without making anyone late.
_SAFETY = 1.2
# A wait for company ends this many expected calls before the deadline: earlier than what is given up as too late.
_CAUTION = 1.5
# While more waits than one batch holds, so much of its budget must be left to a request that is to join.
_FRESH_SHARE = 0.3
_Number = TypeVar("_Number", np.int32, np.float32)


@dataclass(slots=True, eq=False)
class Ticket:
    """Rows of one request that wait for the model.

    Attributes:
        rows: positions of the request's candidates that are wanted, intp [k], rising.
        worth: tells how much each candidate is worth scoring, float32 [size of the request]; where not all can leave,
            those worth most go first. None: in their order.
        taken: how many of `rows` have left in a batch.
        given_up: set by `BatchQueue.discard`; its rows leave no more.
    """

    version: ModelVersion
    encoded: EncodedRequest
    rows: Rows
    deadline: Deadline
    added: float
    worth: Callable[[], F32] | None = None
    taken: int = 0
    given_up: bool = False

    @property
    def waiting(self) -> int:
        """Rows still in the queue."""
        return 0 if self.given_up else len(self.rows) - self.taken

    def take(self, room: int) -> Rows:
        """Up to `room` of its waiting rows, rising, which thereby have left."""
        if self.worth is not None and room < self.waiting:
            left = self.rows[self.taken :]
            order = np.argsort(-self.worth()[left], kind="stable")
            self.rows = np.concatenate(
                [self.rows[: self.taken], np.sort(left[order[:room]]), np.sort(left[order[room:]])]
            )
        rows = self.rows[self.taken : self.taken + room]
        self.taken += len(rows)
        return rows


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that leave together. Invariant: all of one model version.

    Attributes:
        parts: pairs of a ticket and the positions of its candidates, in the order of the batch's rows.
        reason: why it left now.
        deadline: the latest of its members'; each member whose own time is up is answered earlier by its own timer.
    """

    version: ModelVersion
    parts: Sequence[tuple[Ticket, Rows]]
    reason: Reason
    rows: int
    deadline: Deadline

    def inputs(self) -> BatchInputs:
        """The rows as the model takes them; equal user-and-context rows are sent once."""
        first: dict[bytes, int] = {}
        unique: list[EncodedRequest] = []
        at: list[int] = []
        for ticket, _ in self.parts:
            encoded = ticket.encoded
            key = encoded.request_ids.tobytes() + encoded.request_floats.tobytes()
            index = first.setdefault(key, len(unique))
            if index == len(unique):
                unique.append(encoded)
            at.append(index)
        counts = [len(rows) for _, rows in self.parts]
        return BatchInputs(
            request_ids=np.concatenate([e.request_ids for e in unique]),
            request_floats=np.concatenate([e.request_floats for e in unique]),
            candidate_ids=_gather([(t.encoded.candidate_ids, rows) for t, rows in self.parts]),
            candidate_floats=_gather([(t.encoded.candidate_floats, rows) for t, rows in self.parts]),
            pair_ids=_gather([(t.encoded.pair_ids, rows) for t, rows in self.parts]),
            row_to_request=np.repeat(np.array(at, dtype=np.int32), counts),
        )


class BatchQueue:
    """Holds rows until they leave in a batch, most urgent request first.

    A batch leaves when a slot is free and something waits; with `max_wait_ms` above 0 it waits that long for company,
    but not when it is full or when its most urgent request would be late. It holds no more rows than its most urgent
    request has time for, by what the model's replies have taught.

    Invariants: (1) every row leaves exactly once, unless its ticket is discarded or shed; (2) a batch never holds rows
    of two model versions, nor more than `max_batch_rows`; (3) a full queue refuses, it never grows.
    """

    def __init__(self, settings: BatchingSettings) -> None:
        self._settings = settings
        self._heap: list[tuple[float, int, Ticket]] = []
        self._order = itertools.count()
        self._draining = False
        self._latencies = LatencyModels()
        self.queued_rows = 0

    def __repr__(self) -> str:
        return f"<BatchQueue {self.queued_rows} rows of {len(self._heap)} requests{' draining' * self._draining}>"

    def add(self, ticket: Ticket) -> None:
        """Queues a ticket's rows.

        Raises:
            QueueFullError: the queue holds `max_queued_rows`, or would.
        """
        if self.queued_rows + ticket.waiting > self._settings.max_queued_rows:
            raise QueueFullError(f"{self.queued_rows} rows wait, batching.max_queued_rows is reached")
        heapq.heappush(self._heap, (ticket.deadline.at, next(self._order), ticket))
        self.queued_rows += ticket.waiting

    def latency(self, version: ModelVersion) -> LatencyModel:
        """What is known of a version's latency; of the last few versions only."""
        return self._latencies.of(version)

    def shed(self, now: float, *, idle: bool) -> list[tuple[Ticket, Rows]]:
        """Gives up the requests that the next batch could not answer in time any more; returns them and their rows.

        While more waits than one batch holds, that batch will be a full one, and whoever has not the time for it makes
        room for those who have: small batches for the most urgent would make everyone late in turn. With `idle`, when
        no call is in flight, the request with the most time is kept all the same: asking costs nobody anything then,
        and it is the only way to learn that the model has become faster.
        """
        given_up: list[tuple[Ticket, Rows]] = []
        while self._heap:
            ticket = self._heap[0][2]
            if self._fits(ticket, now) or (idle and ticket.waiting == self.queued_rows):
                break
            given_up.append((ticket, ticket.rows[ticket.taken :]))
            self.discard(ticket)
        return given_up

    def would_miss_deadline(self, version: ModelVersion, deadline: Deadline, now: float, *, calls: int) -> bool:
        """Whether rows that were added now would leave too late, behind those that are more urgent.

        `calls` full batches at a time are what those take. False while less than a batch waits, for then what fits is
        known when a slot is free, and until a reply has taught what a call takes. Whoever does not even queue makes
        room at once for records that have more time. So does one that has used up most of its budget: those read next
        to it are as old, and to score each at the last moment is how a scorer that has fallen behind stays behind.
        """
        most = self._settings.max_batch_rows
        full = self.latency(version).estimate(most)
        if self.queued_rows < most or not full:
            return False
        ahead = sum(ticket.waiting for at, _, ticket in self._heap if at <= deadline.at)
        if (ahead / most + 1) * full / calls + full > self._seconds_for(deadline, now):
            return True
        return deadline.remaining(now) < _FRESH_SHARE * (deadline.at - deadline.start)

    def discard(self, ticket: Ticket) -> None:
        """Gives up a ticket's rows that have not left yet. Again and after it has left: nothing happens."""
        self.queued_rows -= ticket.waiting
        ticket.given_up = True
        self._drop_settled()

    def take(self, now: float) -> Batch | None:
        """The batch that may leave now that a slot is free, or None: nothing waits, or it waits for company."""
        reason = self._reason(now)
        if reason is None:
            return None
        room = limit = self._limit(now)
        parts: list[tuple[Ticket, Rows]] = []
        others: list[tuple[float, int, Ticket]] = []
        version = self._heap[0][2].version
        latest = self._heap[0][2].deadline
        while self._heap and room:
            entry = heapq.heappop(self._heap)
            ticket = entry[2]
            if ticket.version != version:
                others.append(entry)
                continue
            if not ticket.waiting:
                continue
            rows = ticket.take(room)
            self.queued_rows -= len(rows)
            room -= len(rows)
            parts.append((ticket, rows))
            latest = max(latest, ticket.deadline)
            if ticket.waiting:
                others.append(entry)
        for entry in others:
            heapq.heappush(self._heap, entry)
        self._drop_settled()
        return Batch(version, parts, reason, limit - room, latest)

    def next_wakeup(self) -> float | None:
        """When `take` should be asked again although nothing was added: the end of a wait for company."""
        if not self._heap or not self._settings.max_wait_ms:
            return None
        return min(self._oldest() + self._settings.max_wait_ms / 1e3, self._urgent_at())

    def drain(self) -> None:
        """From now on nothing waits for company."""
        self._draining = True

    def _reason(self, now: float) -> Reason | None:
        if not self._heap:
            return None
        if self._draining:
            return "drain"
        if self.queued_rows >= self._settings.max_batch_rows:
            return "full"
        if now >= self._oldest() + self._settings.max_wait_ms / 1e3:
            return "slot_free"
        return "deadline" if now >= self._urgent_at() else None

    def _fits(self, ticket: Ticket, now: float) -> bool:
        """Whether the batch that may leave now would answer a ticket in time, at least in part."""
        most = self._settings.max_batch_rows
        rows = most if self.queued_rows > most else 1
        return self.latency(ticket.version).rows_within(self._seconds_for(ticket.deadline, now)) >= rows

    def _limit(self, now: float) -> int:
        """Rows that the next batch may hold: those that its most urgent request has time for, but at least one."""
        first = self._heap[0][2]
        fit = self.latency(first.version).rows_within(self._seconds_for(first.deadline, now))
        return max(1, int(min(self._settings.max_batch_rows, fit)))

    def _seconds_for(self, deadline: Deadline, now: float) -> float:
        """How long a call that leaves now may be expected to take, for an answer in time."""
        return (deadline.remaining(now) - self._settings.answer_margin_ms / 1e3) / _SAFETY

    def _oldest(self) -> float:
        return min((t.added for _, _, t in self._heap if t.waiting), default=math.inf)

    def _urgent_at(self) -> float:
        """When the most urgent request must leave to be answered in time."""
        first = self._heap[0][2]
        ahead = self.latency(first.version).estimate(min(self.queued_rows, self._settings.max_batch_rows))
        return first.deadline.at - self._settings.answer_margin_ms / 1e3 - _CAUTION * ahead

    def _drop_settled(self) -> None:
        """Keeps a live ticket at the top of the heap, so that an empty queue looks empty."""
        while self._heap and not self._heap[0][2].waiting:
            heapq.heappop(self._heap)


def _gather(parts: Sequence[tuple[npt.NDArray[_Number], Rows]]) -> npt.NDArray[_Number]:
    return np.concatenate([matrix if len(rows) == len(matrix) else matrix[rows] for matrix, rows in parts])
