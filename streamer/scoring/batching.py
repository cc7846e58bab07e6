"""A queue of candidate rows, which leave in micro-batches across requests. Pure."""

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from msgspec.structs import force_setattr

from streamer.deadline import Deadline
from streamer.errors import QueueFullError
from streamer.latency import LatencyModel, LatencyModels
from streamer.settings.sections import BatchingSettings
from streamer.tracing.recording import RequestTrace
from streamer.types import F32, BatchInputs, EncodedRequest, ModelVersion

Reason = Literal["slot_free", "full", "deadline", "drain"]
Rows = npt.NDArray[np.intp]
# A call may take this many times its expected latency and still meet the deadline.
_LATENCY_MARGIN = 1.2
# The batch delay ends this many expected latencies before the deadline: earlier than the point at which rows are shed.
_DELAY_MARGIN = 1.5
# While more than one batch is queued, a new request needs at least this share of its budget left.
_MIN_BUDGET_SHARE = 0.3
_OF_CANDIDATES = ("candidate_ids", "candidate_floats", "pair_ids", "candidate_numbers", "candidate_texts")


@dataclass(slots=True, eq=False)
class Ticket:
    """Rows of one request that the model must score.

    Attributes:
        rows: positions of the requested candidates, intp [k], rising.
        added: when the request joined the queue, monotonic seconds.
        priority: returns a priority for each candidate, float32 [size of the request]; if a batch has no room for all
            rows, those with the highest priority leave first. None: in their order.
        sent: how many of `rows` have left in a batch.
        discarded: set by `BatchQueue.discard`; no more rows leave.
    """

    version: ModelVersion
    encoded: EncodedRequest
    rows: Rows
    deadline: Deadline
    added: float
    priority: Callable[[], F32] | None = None
    sent: int = 0
    discarded: bool = False
    trace: RequestTrace | None = None

    @property
    def queued(self) -> int:
        """Number of rows that are still in the queue."""
        return 0 if self.discarded else len(self.rows) - self.sent

    def send(self, room: int) -> Rows:
        """Removes up to `room` rows from the queue and returns them, rising."""
        if self.priority is not None and room < self.queued:
            left = self.rows[self.sent :]
            first, rest = np.split(left[np.argsort(-self.priority()[left], kind="stable")], [room])
            self.rows = np.concatenate([self.rows[: self.sent], np.sort(first), np.sort(rest)])
        rows = self.rows[self.sent : self.sent + room]
        self.sent += len(rows)
        return rows


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that leave in one call. Invariant: all rows are of one model version.

    Attributes:
        parts: tickets with the positions of their candidates, in the order of the batch's rows.
        reason: why the batch leaves now.
        deadline: the latest deadline of its requests; a request with an earlier deadline has its own timer.
    """

    version: ModelVersion
    parts: Sequence[tuple[Ticket, Rows]]
    reason: Reason
    rows: int
    deadline: Deadline

    def inputs(self) -> BatchInputs:
        """The inputs of the model; equal user-and-context rows are sent once."""
        keys = [request_key(t.encoded) for t, _ in self.parts]
        unique = {key: ticket.encoded for key, (ticket, _) in zip(keys, self.parts, strict=True)}
        index = {key: i for i, key in enumerate(unique)}
        counts = [len(rows) for _, rows in self.parts]
        request_numbers = [e.request_numbers for e in unique.values() if e.request_numbers is not None]
        request_texts = [e.request_texts for e in unique.values() if e.request_texts is not None]
        return BatchInputs(
            request_ids=np.concatenate([e.request_ids for e in unique.values()]),
            request_floats=np.concatenate([e.request_floats for e in unique.values()]),
            row_to_request=np.repeat(np.array([index[key] for key in keys], dtype=np.int32), counts),
            request_numbers=np.concatenate(request_numbers) if request_numbers else None,
            request_texts=np.concatenate(request_texts) if request_texts else None,
            **{name: self._joined(name) for name in _OF_CANDIDATES},
        )

    def _joined(self, name: str) -> Any:
        """A matrix of the candidates. Whole requests share its memory from now on."""
        (first, rows), *others = parts = [(ticket.encoded, rows) for ticket, rows in self.parts]
        matrix = getattr(first, name)
        if matrix is None or (not others and len(rows) == first.size):
            return matrix
        matrices = [(getattr(encoded, name), rows) for encoded, rows in parts]
        joined = np.concatenate([m if len(rows) == len(m) else m[rows] for m, rows in matrices])
        at = 0
        for encoded, rows in parts:
            if len(rows) == encoded.size:
                force_setattr(encoded, name, joined[at : at + len(rows)])
            at += len(rows)
        return joined


class BatchQueue:
    """Holds rows until they leave in a batch, the request with the earliest deadline first.

    A batch leaves when a call may start and a row is queued. With `max_wait_ms` above 0 it waits up to that batch
    delay, unless it is full or its most urgent request would miss its deadline. While the queue is long, batches are
    larger than a full one. By the latency model of its version, a batch holds no more rows than its most urgent request
    has time for.

    Invariants:
    1. Every row leaves exactly once, unless its ticket is discarded or shed.
    2. A batch never holds rows of two model versions, nor more than `max_batch_rows`.
    3. A full queue rejects new rows and never grows.

    Attributes:
        batch_rows: rows of a full batch.
    """

    def __init__(self, settings: BatchingSettings) -> None:
        self._settings = settings
        self.batch_rows = min(settings.batch_rows, settings.max_batch_rows)
        self.margin_s = settings.answer_margin_ms / 1e3
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
            QueueFullError: the queue would hold more than `max_queued_rows`.
        """
        if self.queued_rows + ticket.queued > self._settings.max_queued_rows:
            raise QueueFullError(f"queue full: {self.queued_rows} rows are queued (batching.max_queued_rows)")
        heapq.heappush(self._heap, (ticket.deadline.at, next(self._order), ticket))
        self.queued_rows += ticket.queued

    @property
    def holds_a_batch(self) -> bool:
        """Whether a full batch, at least, is queued."""
        return self.queued_rows >= self.batch_rows

    def latency(self, version: ModelVersion) -> LatencyModel:
        """The latency model of a version; only the most recent versions are kept."""
        return self._latencies.of(version)

    def shed(self, now: float, *, idle: bool) -> list[tuple[Ticket, Rows]]:
        """Discards and returns the tickets that the next batch would answer too late.

        While more than one batch is queued, the next batch is a full one, and a request without time for a full batch
        is shed. Smaller batches for the most urgent requests would make all later requests late. If the model is
        `idle`, the request with the latest deadline is kept: its call delays no other request, and only a reply shows
        that the model has become faster.
        """
        shed: list[tuple[Ticket, Rows]] = []
        while self._heap:
            ticket = self._heap[0][2]
            needed_rows = self.batch_rows if self.queued_rows > self.batch_rows else 1
            if self._rows_in_time(ticket, now) >= needed_rows or (idle and ticket.queued == self.queued_rows):
                break
            shed.append((ticket, ticket.rows[ticket.sent :]))
            self.discard(ticket)
        return shed

    def would_miss_deadline(self, version: ModelVersion, deadline: Deadline, now: float, *, calls: int) -> bool:
        """Whether rows that join now would leave too late, behind the more urgent rows.

        The rows ahead are assumed to leave in full batches, `calls` at a time. The result is False while less than one
        batch is queued, because `shed` decides then, and until the first reply. Rejecting a late request frees
        capacity for requests with more budget left.

        A request that has used most of its budget is rejected too. The records read next to it are as old; scoring each
        of them at the last moment would keep the backlog.
        """
        full_batch_s = self.latency(version).estimate(self.batch_rows)
        if not self.holds_a_batch or not full_batch_s:
            return False
        if deadline.remaining(now) < _MIN_BUDGET_SHARE * (deadline.at - deadline.start):
            return True
        in_time = (self._call_budget_s(deadline, now) - full_batch_s) * calls / full_batch_s - 1
        if self.queued_rows <= in_time * self.batch_rows:
            return False  # whichever of them are more urgent
        return sum(ticket.queued for at, _, ticket in self._heap if at <= deadline.at) > in_time * self.batch_rows

    def discard(self, ticket: Ticket) -> None:
        """Removes a ticket's queued rows. Without queued rows it does nothing."""
        self.queued_rows -= ticket.queued
        ticket.discarded = True
        self._pop_empty()

    def next_batch(self, now: float, *, calls: int) -> Batch | None:
        """Removes and returns the batch that leaves now; None: no rows, or the batch delay lasts.

        `calls`: how many may start now, at least 1. If the queue has more than a full batch for each, the batch is
        larger: a few large calls take the model less time than many small ones.
        """
        reason = self._reason(now)
        if reason is None:
            return None
        first = self._heap[0][2]
        share = min(max(self.batch_rows, self.queued_rows // calls), self._settings.max_batch_rows)
        # The row limit, at least 1: the most urgent request has time for these rows.
        limit = max(1, int(min(share, self._rows_in_time(first, now))))
        size = 0
        parts: list[tuple[Ticket, Rows]] = []
        others: list[tuple[float, int, Ticket]] = []
        while self._heap and size < limit:
            entry = heapq.heappop(self._heap)
            ticket = entry[2]
            if ticket.version == first.version and ticket.queued:
                if self.batch_rows <= size and limit < size + ticket.queued:
                    others.append(entry)
                    break  # it fits into another batch; more than a full one is not worth a split
                rows = ticket.send(limit - size)
                size += len(rows)
                parts.append((ticket, rows))
            if ticket.queued:
                others.append(entry)
        for entry in others:
            heapq.heappush(self._heap, entry)
        self.queued_rows -= size
        self._pop_empty()
        return Batch(first.version, parts, reason, size, max(ticket.deadline for ticket, _ in parts))

    def next_wakeup(self) -> float | None:
        """When the batch delay ends and `next_batch` returns a batch; None: no delay is running."""
        if not self._heap or not self._settings.max_wait_ms:
            return None
        return min(self._delay_end(), self._latest_start())

    def drain(self) -> None:
        """Ends the batch delay, now and for all later rows."""
        self._draining = True

    def _reason(self, now: float) -> Reason | None:
        if not self._heap:
            return None
        if self._draining:
            return "drain"
        if self.holds_a_batch:
            return "full"
        if now >= self._delay_end():
            return "slot_free"
        return "deadline" if now >= self._latest_start() else None

    def _rows_in_time(self, ticket: Ticket, now: float) -> float:
        return self.latency(ticket.version).rows_within(self._call_budget_s(ticket.deadline, now))

    def _call_budget_s(self, deadline: Deadline, now: float) -> float:
        """The longest expected latency, in seconds, of a call that starts now and is in time."""
        return (deadline.remaining(now) - self.margin_s) / _LATENCY_MARGIN

    def _delay_end(self) -> float:
        oldest = min((t.added for _, _, t in self._heap if t.queued), default=math.inf)
        return oldest + self._settings.max_wait_ms / 1e3

    def _latest_start(self) -> float:
        """When the call of the most urgent request must start."""
        first = self._heap[0][2]
        call_s = self.latency(first.version).estimate(min(self.queued_rows, self.batch_rows))
        return first.deadline.at - self.margin_s - _DELAY_MARGIN * call_s

    def _pop_empty(self) -> None:
        """Removes tickets without queued rows from the top of the heap."""
        while self._heap and not self._heap[0][2].queued:
            heapq.heappop(self._heap)


def request_key(encoded: EncodedRequest) -> bytes:
    """The values of the user and the context as the model gets them."""
    numbers = b"" if encoded.request_numbers is None else encoded.request_numbers.tobytes()
    texts = b"" if encoded.request_texts is None else repr(encoded.request_texts.tolist()).encode()
    return encoded.request_ids.tobytes() + encoded.request_floats.tobytes() + numbers + texts
