"""Decides when a machine is a member of the consumer group. Pure."""

from dataclasses import dataclass
from math import inf

from streamer.supervision import events as e

# The first workers that are ready wait so long for the others before the group gives them all partitions.
_JOIN_AFTER_S = 2.0
# Without a ready worker for so long, other machines take over.
_LEAVE_AFTER_S = 5.0


@dataclass(slots=True)
class Membership:
    """The machine's membership.

    1. It joins when `active` workers are ready, or 2 s after the first one.
    2. It leaves when no worker has been ready for 5 s, and no process holds a partition.

    Attributes:
        active: the number of workers that read.
    """

    active: int
    joined: bool = False
    # Infinite while no worker is ready, and while one is.
    _ready_since: float = inf
    _unready_since: float = inf

    def decide(self, ready: int, *, holds: bool, now: float) -> e.Join | e.Leave | None:
        """What to do with `ready` workers; `holds` if a process holds a partition."""
        self._ready_since = min(now, self._ready_since) if ready else inf
        self._unready_since = inf if ready else min(now, self._unready_since)
        if not self.joined and (ready >= self.active or now >= self._ready_since + _JOIN_AFTER_S):
            self.joined = True
            return e.Join()
        if self.joined and not holds and now >= self._unready_since + _LEAVE_AFTER_S:
            self.joined = False
            return e.Leave()
        return None

    def due(self, now: float) -> float:
        """When the next decision may be due, monotonic seconds."""
        times = (self._ready_since + _JOIN_AFTER_S, self._unready_since + _LEAVE_AFTER_S)
        return min((time for time in times if time > now), default=inf)

    def shift(self, seconds: float) -> None:
        """Leaves later."""
        self._unready_since += seconds
