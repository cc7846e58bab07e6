"""Decides when the process of a worker that ended may start again. Pure."""

from collections import deque
from dataclasses import dataclass, field

from streamer.settings.deployment import SupervisorSettings

_LONGEST_PAUSE_S = 60.0


@dataclass(slots=True)
class Restarts:
    """The ends of the processes of one worker number.

    1. The pause before a start is `restart_pause_ms`; it doubles with each process that ends before it is ready, up to
       one minute.
    2. More than `max_restarts` ends within `restart_window_s` are too many.
    """

    settings: SupervisorSettings
    not_before: float = 0.0
    """The time of the next start, monotonic seconds."""
    _ends: deque[float] = field(default_factory=deque)
    _unready: int = 0

    def ended(self, now: float, was_ready: bool) -> float | None:
        """The pause in seconds before the next start; None after too many ends."""
        while self._ends and self._ends[0] < now - self.settings.restart_window_s:
            self._ends.popleft()
        self._ends.append(now)
        if len(self._ends) > self.settings.max_restarts:
            return None
        self._unready = 0 if was_ready else self._unready + 1
        first_s: float = self.settings.restart_pause_ms / 1e3
        pause_s = first_s * 2.0 ** min(30, max(0, self._unready - 1))
        pause_s = min(pause_s, max(first_s, _LONGEST_PAUSE_S))
        self.not_before = now + pause_s
        return pause_s
