"""Tracks the offset of each partition that is safe to commit. Pure."""

from collections import Counter, OrderedDict, deque
from collections.abc import Container, Iterable, Mapping

from streamer.types import Partition


class OffsetTracker:
    """Tracks records from receipt to acknowledgement, in any order, and on to their commit.

    A record is acknowledged when the brokers have its answer or dead letter. Invariants:

    1. `committable` never names an offset above a record that was received and is not acknowledged.
    2. `committable` of a partition never decreases.
    3. A revoked partition is forgotten; a later acknowledgement of its records has no effect.
    4. `unacknowledged` counts received records without an acknowledgement; `uncommitted` counts received records that
       no commit covers, which are the ones that a crash would bring back.
    """

    def __init__(self) -> None:
        # The size of each record from the first unacknowledged one on; None once it is acknowledged.
        self._open: dict[Partition, OrderedDict[int, int | None]] = {}
        # Offsets before those, all acknowledged, that no commit covers.
        self._acknowledged: dict[Partition, deque[int]] = {}
        self._next: dict[Partition, int] = {}
        self._committed: dict[Partition, int] = {}
        self._unacknowledged: Counter[Partition] = Counter()
        self._bytes = 0
        self._uncommitted = 0

    @property
    def unacknowledged(self) -> int:
        """Records received and not acknowledged."""
        return self._unacknowledged.total()

    @property
    def unacknowledged_bytes(self) -> int:
        """The size of these records."""
        return self._bytes

    @property
    def uncommitted(self) -> int:
        """Records received that no commit covers."""
        return self._uncommitted

    def received(self, partition: Partition, offset: int, size: int = 0) -> None:
        """Adds a record of `size` bytes. The offsets of a partition increase, perhaps with gaps."""
        self._open.setdefault(partition, OrderedDict())[offset] = size
        self._unacknowledged[partition] += 1
        self._bytes += size
        self._uncommitted += not self._is_committed(partition, offset)

    def acknowledged(self, partition: Partition, offset: int) -> None:
        """The brokers have the record's answer or dead letter."""
        records = self._open.get(partition)
        if records is None or (size := records.get(offset)) is None:
            return
        records[offset] = None
        self._unacknowledged[partition] -= 1
        self._bytes -= size
        acknowledged = self._acknowledged.setdefault(partition, deque())
        while records:
            first, left = next(iter(records.items()))
            if left is not None:
                break
            del records[first]
            self._next[partition] = first + 1
            if not self._is_committed(partition, first):
                acknowledged.append(first)

    def passed(self, partition: Partition, offset: int) -> None:
        """The log has no more records before `offset`, as behind the end of a transaction."""
        position = self.acknowledged_up_to(partition)
        if position is not None and offset > position and not self._open.get(partition):
            self._next[partition] = offset

    def committable(self) -> dict[Partition, int]:
        """The offset to commit for each partition whose offset has increased since its last commit."""
        return {p: n for p, n in self._next.items() if n > self._committed.get(p, -1)}

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """The brokers have stored these offsets; for a new partition, its start offset.

        A transaction commits records before they are `acknowledged`.
        """
        for partition, offset in offsets.items():
            before = self._committed.get(partition, -1)
            self._committed[partition] = offset
            acknowledged = self._acknowledged.get(partition, ())
            while acknowledged and acknowledged[0] < offset:
                acknowledged.popleft()
                self._uncommitted -= 1
            for held in self._open.get(partition, ()):
                if held >= offset:
                    break
                self._uncommitted -= held >= before

    def last_committed(self, partition: Partition) -> int | None:
        """The offset of the last commit; None before the first."""
        return self._committed.get(partition)

    def acknowledged_up_to(self, partition: Partition) -> int | None:
        """The first unacknowledged offset; at first the start offset; None if not known."""
        return self._next.get(partition, self._committed.get(partition))

    def received_up_to(self, partition: Partition) -> int | None:
        """The next offset to receive; at first the start offset; None if not known."""
        records = self._open.get(partition)
        return next(reversed(records)) + 1 if records else self.acknowledged_up_to(partition)

    def is_unacknowledged(self, partition: Partition, offset: int) -> bool:
        """Whether the record was received and is not acknowledged."""
        records = self._open.get(partition)
        return records is not None and records.get(offset) is not None

    def prefix(self, partition: Partition, ready: Container[int]) -> list[int]:
        """The first unacknowledged offsets of a partition, up to the first that is not `ready`."""
        found = []
        for offset, size in self._open.get(partition, {}).items():
            if size is None:
                continue
            if offset not in ready:
                break
            found.append(offset)
        return found

    def unacknowledged_of(self, partitions: Iterable[Partition]) -> int:
        """Records of these partitions that are not acknowledged."""
        return sum(self._unacknowledged[p] for p in partitions)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Drops all records of lost partitions."""
        for partition in list(partitions):
            records: Mapping[int, int | None] = self._open.get(partition, {})
            self._bytes -= sum(size for size in records.values() if size is not None)
            self._uncommitted -= sum(1 for offset in records if not self._is_committed(partition, offset))
            self._uncommitted -= len(self._acknowledged.get(partition, ()))
            for held in (self._open, self._acknowledged, self._next, self._committed, self._unacknowledged):
                held.pop(partition, None)

    def _is_committed(self, partition: Partition, offset: int) -> bool:
        return offset < self._committed.get(partition, -1)
