"""Which offset of each partition is safe to commit: the one behind which everything has been answered. Pure."""

from collections import Counter, OrderedDict, deque
from collections.abc import Container, Iterable, Mapping

from streamer.types import Partition


class OffsetTracker:
    """Follows records from receipt to answer, in whatever order the answers come, and on to their commit.

    Promise: `committable` never names an offset above a record that was received and is not done. Invariants: (1) it
    never goes back; (2) a partition that was taken away is forgotten, and what is still done for it has no effect;
    (3) `uncommitted` counts the records that a crash would bring back, `in_flight` those not done.
    """

    def __init__(self) -> None:
        # The size of each record from the first one on that is not done; None once it is done.
        self._open: dict[Partition, OrderedDict[int, int | None]] = {}
        # Offsets before those, all done, that no commit covers.
        self._done: dict[Partition, deque[int]] = {}
        self._next: dict[Partition, int] = {}
        self._committed: dict[Partition, int] = {}
        self._in_flight: Counter[Partition] = Counter()
        self._bytes = 0
        self._uncommitted = 0

    @property
    def in_flight(self) -> int:
        """Records received and not done."""
        return self._in_flight.total()

    @property
    def unacknowledged_bytes(self) -> int:
        """What those weigh."""
        return self._bytes

    @property
    def uncommitted(self) -> int:
        """Records received that no commit covers."""
        return self._uncommitted

    def received(self, partition: Partition, offset: int, size: int = 0) -> None:
        """A record of `size` bytes came in; offsets of a partition rise, with gaps where the log was compacted."""
        self._open.setdefault(partition, OrderedDict())[offset] = size
        self._in_flight[partition] += 1
        self._bytes += size
        self._uncommitted += not self._is_committed(partition, offset)

    def done(self, partition: Partition, offset: int) -> None:
        """The record has been answered or dead-lettered, for good."""
        records = self._open.get(partition)
        if records is None or (size := records.get(offset)) is None:
            return
        records[offset] = None
        self._in_flight[partition] -= 1
        self._bytes -= size
        behind = self._done.setdefault(partition, deque())
        while records:
            first, left = next(iter(records.items()))
            if left is not None:
                break
            del records[first]
            self._next[partition] = first + 1
            if not self._is_committed(partition, first):
                behind.append(first)

    def committable(self) -> dict[Partition, int]:
        """The next offset to read of each partition, where it is further than what was committed."""
        return {p: n for p, n in self._next.items() if n > self._committed.get(p, -1)}

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """The broker has taken these; for a new partition, that is where it begins.

        A transaction commits records that are `done` only afterwards.
        """
        for partition, offset in offsets.items():
            before = self._committed.get(partition, -1)
            self._committed[partition] = offset
            behind = self._done.get(partition, ())
            while behind and behind[0] < offset:
                behind.popleft()
                self._uncommitted -= 1
            for held in self._open.get(partition, ()):
                if held >= offset:
                    break
                self._uncommitted -= held >= before

    def last_committed(self, partition: Partition) -> int | None:
        """The offset of the last commit, None before the first."""
        return self._committed.get(partition)

    def read_up_to(self, partition: Partition) -> int | None:
        """The next offset to answer; before the first answer, where the partition begins; None if that is not known."""
        return self._next.get(partition, self._committed.get(partition))

    def received_up_to(self, partition: Partition) -> int | None:
        """The next offset to receive; before the first record, where the partition begins; None if not known."""
        records = self._open.get(partition)
        return next(reversed(records)) + 1 if records else self.read_up_to(partition)

    def is_in_flight(self, partition: Partition, offset: int) -> bool:
        """Whether the record was received and is not done."""
        records = self._open.get(partition)
        return records is not None and records.get(offset) is not None

    def prefix(self, partition: Partition, ready: Container[int]) -> list[int]:
        """The offsets of the partition's first records that are not done, up to the first that is not `ready`."""
        found = []
        for offset, size in self._open.get(partition, {}).items():
            if size is None:
                continue
            if offset not in ready:
                break
            found.append(offset)
        return found

    def in_flight_of(self, partitions: Iterable[Partition]) -> int:
        """Records of these partitions that are not done."""
        return sum(self._in_flight[p] for p in partitions)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """These partitions are somebody else's now."""
        for partition in list(partitions):
            records: Mapping[int, int | None] = self._open.get(partition, {})
            self._bytes -= sum(size for size in records.values() if size is not None)
            self._uncommitted -= sum(1 for offset in records if not self._is_committed(partition, offset))
            self._uncommitted -= len(self._done.get(partition, ()))
            for held in (self._open, self._done, self._next, self._committed, self._in_flight):
                held.pop(partition, None)

    def _is_committed(self, partition: Partition, offset: int) -> bool:
        return offset < self._committed.get(partition, -1)
