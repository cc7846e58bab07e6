"""The numbers of the workers of a machine, and which of them may start a process. Pure."""

from collections.abc import Collection
from dataclasses import dataclass, field

from streamer.settings.deployment import SupervisorSettings
from streamer.supervision.restarts import Restarts


@dataclass(slots=True)
class Slots:
    """One number more than usual processes: while processes are replaced, one more runs.

    A number whose process ended rests before its restart. While it rests, no other number starts in its place.
    """

    settings: SupervisorSettings
    _restarts: dict[int, Restarts] = field(default_factory=dict)

    def ended(self, number: int, now: float, was_ready: bool) -> float | None:
        """The pause in seconds before the process starts again; None after too many ends."""
        return self._restarts.setdefault(number, Restarts(self.settings)).ended(now, was_ready)

    def startable(self, running: Collection[int], now: float, *, is_replacing: bool) -> list[int]:
        """The numbers that may start now."""
        resting = self._resting(running, now)
        idle = [n for n in self._idle(running) if n not in resting]
        return idle[: max(0, self.settings.processes + is_replacing - len(running) - len(resting))]

    def rest_if_needed(self, number: int, running: Collection[int], now: float, *, is_replacing: bool) -> None:
        """Ends the rest of a number without a missing process; it would delay another start."""
        others = self._resting(running, now) - {number}
        if len(running) + len(others) >= self.settings.processes + is_replacing:
            self._restarts[number].not_before = now

    def missing(self, running: Collection[int]) -> list[int]:
        """The numbers of the processes that should run and do not; those that ended last come first."""
        idle = sorted(self._idle(running), key=lambda n: (-self._not_before(n), n))
        return idle[: max(0, self.settings.processes - len(running))]

    def due(self, now: float) -> list[float]:
        """The times of the next starts, monotonic seconds."""
        return [r.not_before for r in self._restarts.values() if r.not_before > now]

    def _idle(self, running: Collection[int]) -> list[int]:
        return [n for n in range(self.settings.processes + 1) if n not in running]

    def _resting(self, running: Collection[int], now: float) -> set[int]:
        return {n for n in self._idle(running) if now < self._not_before(n)}

    def _not_before(self, number: int) -> float:
        return self._restarts[number].not_before if number in self._restarts else 0.0
