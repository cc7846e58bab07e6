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
        releasing: those of `held` that it was told to release.
        release_by: when it must have released them, or have ended; monotonic seconds.
        alive_until: when it must have shown that it is alive; monotonic seconds.
        place: the lowest number that no other active worker has.
        ending: it was told to end.
    """

    number: int
    generation: int
    phase: Phase = "starting"
    was_ready: bool = False
    held: set[Partition] = field(default_factory=set)
    opening: set[Partition] = field(default_factory=set)
    releasing: set[Partition] = field(default_factory=set)
    release_by: float = inf
    alive_until: float = inf
    place: int = 0
    ending: bool = False

    @property
    def is_staying(self) -> bool:
        """Whether it is not about to end."""
        return self.phase != "draining"

    @property
    def is_moving(self) -> bool:
        """Whether it opens or releases partitions, or ends."""
        return bool(self.opening or self.releasing) or not self.is_staying

    def released(self, partitions: frozenset[Partition]) -> None:
        """It no longer has these partitions."""
        for held in (self.held, self.opening, self.releasing):
            held.difference_update(partitions)
        if not self.releasing and not self.ending:
            self.release_by = inf
