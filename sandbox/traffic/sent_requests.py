"""The sent requests, each with or without its answer; shared by sender and checker."""

import threading
from collections import deque
from dataclasses import dataclass, replace

from sandbox.world.bid_requests import BidRecord
from sandbox.world.contexts import Contexts
from sandbox.world.population import Ints


@dataclass(frozen=True, slots=True)
class SentRequest:
    """One sent request; the other fields as in `BidRecord`.

    Attributes:
        sent_at: monotonic seconds.
        due_at: when its schedule wanted it to be sent, monotonic seconds.
        partition: None until the broker has accepted the request.
    """

    sent_at: float
    user: int
    contexts: Contexts
    row: int
    ads: Ints
    due_at: float
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class AlreadyAnswered:
    """The request has an answer or a dead letter already."""


class SentRequests:
    """Requests by id; thread-safe.

    It remembers the last `capacity` requests: an older request without an answer counts as lost, and an answer to it
    as unknown.

    Invariant: sent = answered + dead-lettered + undelivered + unanswered.
    """

    def __init__(self, capacity: int = 100_000) -> None:
        self._capacity = capacity
        self._entries: dict[str, SentRequest | None] = {}  # None: answered or dead-lettered
        self._dead: deque[SentRequest] = deque(maxlen=capacity)
        self._delays: deque[tuple[float, float]] = deque(maxlen=capacity)
        self._lock = threading.Lock()
        self._sent = self._answered = self._undelivered = self._dead_lettered = 0

    def add(self, record: BidRecord, now: float, due: float | None = None) -> None:
        """Records a request immediately before it is produced; it was due at `due`, by default now."""
        due_at = now if due is None else due
        entry = SentRequest(now, record.user, record.contexts, record.row, record.ads, due_at)
        with self._lock:
            self._sent += 1
            self._entries[record.request_id] = entry
            if len(self._entries) > self._capacity:
                del self._entries[next(iter(self._entries))]

    def delivered(self, request_id: str, partition: int, sent_at: float, delay_s: float) -> None:
        """Records that the broker stored a request in this partition, `delay_s` after it was sent."""
        with self._lock:
            self._delays.append((sent_at, delay_s))
            # The answer can be faster than the acknowledgement.
            if (entry := self._entries.get(request_id)) is not None:
                self._entries[request_id] = replace(entry, partition=partition)

    def delivery_failed(self, request_id: str) -> None:
        """Records that the broker did not accept a request; no answer is expected then."""
        with self._lock:
            if self._entries.pop(request_id, None) is not None:
                self._undelivered += 1

    def answer(self, request_id: str) -> SentRequest | AlreadyAnswered | None:
        """Records an answer.

        Returns its request, `AlreadyAnswered`, or None if no such request is known.
        """
        with self._lock:
            entry = self._entries.get(request_id)
            if entry is None:
                return AlreadyAnswered() if request_id in self._entries else None
            self._entries[request_id] = None
            self._answered += 1
            return entry

    def dead_letter(self, request_id: str) -> None:
        """Records the dead letter of a request; a later answer is a duplicate."""
        with self._lock:
            if (entry := self._entries.get(request_id)) is not None:
                self._entries[request_id] = None
                self._dead.append(entry)
                self._dead_lettered += 1

    def without_answer(self) -> list[SentRequest]:
        """The requests without an answer now, dead-lettered ones included."""
        with self._lock:
            return [*self._dead, *(entry for entry in self._entries.values() if entry is not None)]

    def delays(self) -> list[tuple[float, float]]:
        """The send time and the delay until the acknowledgement of each delivered request, seconds."""
        with self._lock:
            return list(self._delays)

    @property
    def sent(self) -> int:
        """Number of requests that were added."""
        return self._sent

    @property
    def undelivered(self) -> int:
        """Number of requests that the broker did not accept."""
        return self._undelivered

    @property
    def dead_lettered(self) -> int:
        """Number of requests with a dead letter instead of an answer."""
        return self._dead_lettered

    @property
    def unanswered(self) -> int:
        """Number of requests, accepted or pending at the broker, without an answer or dead letter."""
        with self._lock:
            return self._sent - self._answered - self._undelivered - self._dead_lettered
