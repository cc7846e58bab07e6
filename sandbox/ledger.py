"""What was sent and is still owed an answer: the memory that traffic and checker share."""

import threading
from dataclasses import dataclass

from sandbox.places import Contexts
from sandbox.population import Ints
from sandbox.requests import BidRecord


@dataclass(frozen=True, slots=True)
class Sent:
    """One request on its way; `sent_at` in monotonic seconds, the rest as in `BidRecord`."""

    sent_at: float
    user: int
    contexts: Contexts
    row: int
    ads: Ints


@dataclass(frozen=True, slots=True)
class Repeated:
    """The request had been answered before."""


class Ledger:
    """Requests by id, thread-safe.

    Remembers the last `capacity` requests: an older one that is still unanswered counts as lost, and an answer to it
    as unknown. Invariant: sent = answered + buried + refused + unanswered.
    """

    def __init__(self, capacity: int = 100_000) -> None:
        self._capacity = capacity
        self._entries: dict[str, Sent | None] = {}  # None once settled
        self._lock = threading.Lock()
        self._sent = self._settled = self._refused = self._buried = 0

    def record(self, record: BidRecord, now: float) -> None:
        """Notes a request just before it is produced."""
        entry = Sent(now, record.user, record.contexts, record.row, record.ads)
        with self._lock:
            self._sent += 1
            self._entries[record.request_id] = entry
            if len(self._entries) > self._capacity:
                del self._entries[next(iter(self._entries))]

    def refuse(self, request_id: str) -> None:
        """Notes that the broker did not take a request, which nobody then owes an answer."""
        with self._lock:
            if self._entries.pop(request_id, None) is not None:
                self._refused += 1

    def settle(self, request_id: str) -> Sent | Repeated | None:
        """Notes an answer. The request that it belongs to, or `Repeated`, or None where no such request is known."""
        with self._lock:
            entry = self._entries.get(request_id)
            if entry is None:
                return Repeated() if request_id in self._entries else None
            self._entries[request_id] = None
            self._settled += 1
            return entry

    def bury(self, request_id: str) -> None:
        """Notes a request's dead letter: nobody then owes an answer, and one that comes all the same repeats it."""
        with self._lock:
            if self._entries.get(request_id) is not None:
                self._entries[request_id] = None
                self._buried += 1

    @property
    def sent(self) -> int:
        """Requests recorded."""
        return self._sent

    @property
    def refused(self) -> int:
        """Requests that never reached the broker."""
        return self._refused

    @property
    def buried(self) -> int:
        """Requests with a dead letter instead of an answer."""
        return self._buried

    @property
    def unanswered(self) -> int:
        """Requests that the broker took (or may yet take) and nobody has answered."""
        with self._lock:
            return self._sent - self._settled - self._refused - self._buried
