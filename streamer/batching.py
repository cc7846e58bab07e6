"""Micro-batches of rows, across requests. Pure: it decides, the dispatcher acts."""

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from streamer.deadline import Deadline
from streamer.errors import QueueFullError
from streamer.settings import BatchingSettings
from streamer.types import BatchInputs, EncodedRequest, ModelVersion

Reason = Literal["slot_free", "full", "deadline", "drain"]
Rows = npt.NDArray[np.intp]
_Number = TypeVar("_Number", np.int32, np.float32)


@dataclass(slots=True, eq=False)
class Ticket:
    """Rows of one request that wait for the model.

    Attributes:
        rows: positions of the request's candidates that are wanted, intp [k], rising.
        taken: how many of `rows` have left in a batch.
        given_up: set by `BatchQueue.discard`; its rows leave no more.
    """

    version: ModelVersion
    encoded: EncodedRequest
    rows: Rows
    deadline: Deadline
    added: float
    taken: int = 0
    given_up: bool = False

    @property
    def waiting(self) -> int:
        """Rows still in the queue."""
        return 0 if self.given_up else len(self.rows) - self.taken


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


@dataclass(slots=True)
class LatencyModel:
    """Seconds of a call by its rows, `fixed + per_row * n`, learnt from replies by least squares that forgets.

    Robust: a reply that took more than 4 times what was expected counts as 4 times. Until something is learnt the
    estimate is 0, so that nothing is given up on a guess.
    """

    forget: float = 0.98
    _sums: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(5))
    _fixed: float = 0.0
    _per_row: float = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """Learns from one reply."""
        expected = self.estimate(rows)
        if expected > 0:
            seconds = min(seconds, 4 * expected)
        n = float(rows)
        self._sums = self._sums * self.forget + np.array([1.0, n, n * n, seconds, n * seconds])
        count, sum_n, sum_nn, sum_s, sum_ns = self._sums.tolist()
        spread = count * sum_nn - sum_n * sum_n
        # Too little spread in n leaves the slope undetermined: then all of the time is put on the rows.
        if spread > 1e-3 * count * sum_nn:
            self._per_row = max(0.0, (count * sum_ns - sum_n * sum_s) / spread)
        else:
            self._per_row = sum_s / sum_n if sum_n else 0.0
        self._fixed = max(0.0, (sum_s - self._per_row * sum_n) / count)

    def estimate(self, rows: int) -> float:
        """Seconds that a call of `rows` rows should take."""
        return self._fixed + self._per_row * rows


class BatchQueue:
    """Holds rows until they leave in a batch, most urgent request first.

    A batch leaves when a slot is free and something waits; with `max_wait_ms` above 0 it waits that long for company,
    but not when it is full or when its most urgent request would be late.

    Invariants: (1) every row leaves exactly once, unless its ticket is discarded; (2) a batch never holds rows of two
    model versions, nor more than `max_batch_rows`; (3) a full queue refuses, it never grows.
    """

    def __init__(self, settings: BatchingSettings) -> None:
        self._settings = settings
        self._heap: list[tuple[float, int, Ticket]] = []
        self._order = itertools.count()
        self._draining = False
        self.latency = LatencyModel()
        self.waiting_rows = 0

    def __repr__(self) -> str:
        return f"<BatchQueue {self.waiting_rows} rows of {len(self._heap)} requests{' draining' * self._draining}>"

    def add(self, ticket: Ticket) -> None:
        """Queues a ticket's rows.

        Raises:
            QueueFullError: the queue holds `max_queued_rows`, or would.
        """
        if self.waiting_rows + ticket.waiting > self._settings.max_queued_rows:
            raise QueueFullError(f"{self.waiting_rows} rows wait, batching.max_queued_rows is reached")
        heapq.heappush(self._heap, (ticket.deadline.at, next(self._order), ticket))
        self.waiting_rows += ticket.waiting

    def discard(self, ticket: Ticket) -> None:
        """Gives up a ticket's rows that have not left yet. Again and after it has left: nothing happens."""
        self.waiting_rows -= ticket.waiting
        ticket.given_up = True
        self._drop_settled()

    def take(self, now: float) -> Batch | None:
        """The batch that may leave now that a slot is free, or None: nothing waits, or it waits for company."""
        reason = self._reason(now)
        if reason is None:
            return None
        room = self._settings.max_batch_rows
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
            rows = ticket.rows[ticket.taken : ticket.taken + room]
            if not len(rows) or ticket.given_up:
                continue
            ticket.taken += len(rows)
            self.waiting_rows -= len(rows)
            room -= len(rows)
            parts.append((ticket, rows))
            latest = max(latest, ticket.deadline)
            if ticket.waiting:
                others.append(entry)
        for entry in others:
            heapq.heappush(self._heap, entry)
        self._drop_settled()
        return Batch(version, parts, reason, self._settings.max_batch_rows - room, latest)

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
        if self.waiting_rows >= self._settings.max_batch_rows:
            return "full"
        if now >= self._oldest() + self._settings.max_wait_ms / 1e3:
            return "slot_free"
        return "deadline" if now >= self._urgent_at() else None

    def _oldest(self) -> float:
        return min((t.added for _, _, t in self._heap if t.waiting), default=math.inf)

    def _urgent_at(self) -> float:
        """When the most urgent request must leave to be answered in time."""
        ahead = self.latency.estimate(min(self.waiting_rows, self._settings.max_batch_rows))
        return self._heap[0][2].deadline.at - self._settings.answer_margin_ms / 1e3 - ahead

    def _drop_settled(self) -> None:
        """Keeps a live ticket at the top of the heap, so that an empty queue looks empty."""
        while self._heap and not self._heap[0][2].waiting:
            heapq.heappop(self._heap)


def _gather(parts: Sequence[tuple[npt.NDArray[_Number], Rows]]) -> npt.NDArray[_Number]:
    return np.concatenate([matrix if len(rows) == len(matrix) else matrix[rows] for matrix, rows in parts])
