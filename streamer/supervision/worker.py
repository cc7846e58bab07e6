"""One process of a fleet, as the supervisor sees it. Pure."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from streamer.types import Partition

Phase = Literal["starting", "standby", "active", "draining"]


@dataclass(slots=True)
class Worker:
    """One process.

    Attributes:
        generation: of the settings that it was started with.
        was_ready: whether it has been able to take over partitions.
        held: partitions that it was told to open and has not released; no other process has them.
        opening: those of `held` that it does not read yet.
        failing: those of `opening` that it could not open so far; it tries again.
        releasing: those of `held` that it was told to release, each with the end of its time, monotonic seconds.
        alive_until: when it must have shown that it is alive; monotonic seconds.
        end_by: when it must have ended; monotonic seconds.
        place: the lowest number that no other active worker has.
        retired: it has been replaced, or all workers drain; its end is expected.
        ending: it was told to end.
        killed: it was killed, and has not been reaped yet.
    """

    number: int
    generation: int
    phase: Phase = "starting"
    was_ready: bool = False
    held: set[Partition] = field(default_factory=set)
    opening: set[Partition] = field(default_factory=set)
    failing: set[Partition] = field(default_factory=set)
    releasing: dict[Partition, float] = field(default_factory=dict)
    alive_until: float = inf
    end_by: float = inf
    place: int = 0
    retired: bool = False
    ending: bool = False
    killed: bool = False

    @property
    def is_staying(self) -> bool:
        """Whether it is not about to end."""
        return self.phase != "draining"

    @property
    def is_moving(self) -> bool:
        """Whether it opens or releases partitions that can be opened now, or ends."""
        return bool(self.opening - self.failing or self.releasing) or not self.is_staying

    @property
    def release_by(self) -> float:
        """When it must have released its partitions or have ended, monotonic seconds."""
        return min([*self.releasing.values(), self.end_by])

    def alive(self, until: float) -> None:
        """It has shown that it is alive. One that was told to end need not show it again."""
        if not self.ending:
            self.alive_until = until

    def opened(self, partitions: frozenset[Partition], failing: frozenset[Partition]) -> None:
        """It reads the partitions; it could not open those that are `failing`."""
        self.opening -= partitions
        self.failing = (self.failing | failing) & self.opening

    def released(self, partitions: frozenset[Partition]) -> None:
        """It no longer has these partitions."""
        self.held -= partitions
        self.opening -= partitions
        self.failing -= partitions
        self.releasing = {p: by for p, by in self.releasing.items() if p not in partitions}

    def shift(self, seconds: float) -> None:
        """Gives it more time for everything that it must do."""
        self.alive_until += seconds
        self.end_by += seconds
        self.releasing = {p: by + seconds for p, by in self.releasing.items()}
