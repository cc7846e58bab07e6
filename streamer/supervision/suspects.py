"""Finds partitions that kill their workers, and separates them from the others. Pure."""

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from streamer.types import Partition

_SUSPECT_DEATHS = 2


@dataclass(slots=True)
class Deaths:
    """Counts the deaths of workers for each partition, at its present position.

    The workers know the exact numbers: they are in the metadata of the commits. Until a worker reports them, each death
    counts for all partitions that the dead worker read.
    """

    _counts: dict[Partition, int] = field(default_factory=dict)

    @property
    def suspects(self) -> frozenset[Partition]:
        """Partitions whose workers died at least twice at the same position."""
        return frozenset(p for p, count in self._counts.items() if count >= _SUSPECT_DEATHS)

    def died(self, partitions: Collection[Partition]) -> None:
        """A worker died that read these partitions."""
        self._counts |= {p: self._counts.get(p, 0) + 1 for p in partitions}

    def reported(self, read: AbstractSet[Partition], deaths: Collection[tuple[Partition, int]]) -> None:
        """A worker reports all deaths at the positions of the partitions that it reads."""
        self._counts = {p: count for p, count in self._counts.items() if p not in read}
        self._counts |= {p: count for p, count in deaths if p in read}

    def keep(self, partitions: AbstractSet[Partition]) -> None:
        """Forgets all others."""
        self._counts = {p: count for p, count in self._counts.items() if p in partitions}


def isolating(
    held: Mapping[int, AbstractSet[Partition]], suspects: AbstractSet[Partition], healthy: AbstractSet[Partition]
) -> set[int]:
    """The workers for suspects only; the others are for healthy partitions only.

    1. If there are suspects and at least two workers, at least one worker is for suspects.
    2. If there are healthy partitions, at least one worker is for these.
    3. Of the possible choices, the one that moves the fewest healthy partitions.

    Args:
        held: the partitions of each worker.
        suspects: partitions whose workers died repeatedly at the same position.
        healthy: all others.
    """
    if not suspects or not healthy:
        return set(held) if suspects else set()
    kept = sum(bool(partitions) and partitions <= suspects for partitions in held.values())
    count = max(0, min(max(1, kept), len(held) - 1))
    return set(sorted(held, key=lambda n: (len(held[n] - suspects), -len(held[n]), n))[:count])
