"""Which offset of each partition is safe to commit: the one behind which everything has been answered. Pure."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from streamer.types import Partition


class OffsetTracker:
    """Follows records from receipt to answer, in whatever order the answers come.

    Promise: `committable` never names an offset above a record that was received and is not done. Invariants: (1) it
    never goes back; (2) a partition that was taken away is forgotten, and what is still done for it has no effect.
    """

    def __init__(self) -> None:
        self._open: dict[Partition, OrderedDict[int, bool]] = {}
        self._next: dict[Partition, int] = {}
        self._committed: dict[Partition, int] = {}
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """Records received and not done."""
        return self._in_flight

    def received(self, partition: Partition, offset: int) -> None:
        """A record came in; offsets of a partition rise, with gaps where the log was compacted."""
        self._open.setdefault(partition, OrderedDict())[offset] = False
        self._in_flight += 1

    def done(self, partition: Partition, offset: int) -> None:
        """The record has been answered or dead-lettered, for good."""
        records = self._open.get(partition)
        if records is None or records.get(offset) is not False:
            return
        records[offset] = True
        self._in_flight -= 1
        while records:
            first, finished = next(iter(records.items()))
            if not finished:
                break
            del records[first]
            self._next[partition] = first + 1

    def committable(self) -> dict[Partition, int]:
        """The next offset to read of each partition, where it is further than what was committed."""
        return {p: n for p, n in self._next.items() if n > self._committed.get(p, -1)}

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """The broker has taken these."""
        self._committed.update(offsets)

    def read_up_to(self, partition: Partition) -> int | None:
        """The next offset to answer; None while nothing of the partition has been."""
        return self._next.get(partition)

    def in_flight_of(self, partitions: Iterable[Partition]) -> int:
        """Records of these partitions that are not done."""
        return sum(1 for p in partitions for finished in self._open.get(p, {}).values() if not finished)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """These partitions are somebody else's now."""
        for partition in list(partitions):
            self._in_flight -= self.in_flight_of([partition])
            for held in (self._open, self._next, self._committed):
                held.pop(partition, None)
