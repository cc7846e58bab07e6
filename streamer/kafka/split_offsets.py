"""Tracks offsets of partitions that are read at two positions: live, and in a gap. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from streamer.kafka.answered_ranges import Range, Ranges, above, first_unanswered, joined, unanswered
from streamer.kafka.offsets import OffsetTracker
from streamer.types import Partition


@dataclass(frozen=True, slots=True)
class Start:
    """Where the reading of a partition begins.

    Attributes:
        committed: the committed offset; all records before it are answered.
        live: the first offset of live reading. The records from `committed` to `live` - 1 are the gap.
        answered: ranges above `committed` whose records are answered.
    """

    committed: int
    live: int
    answered: Ranges = ()


@dataclass(slots=True, eq=False)
class Gap:
    """The older records of a partition, which a second reader reads.

    Attributes:
        position: the next offset to read.
        end: the first offset after the gap.
    """

    position: int
    end: int

    @property
    def is_read(self) -> bool:
        """Whether all records of the gap have been received."""
        return self.position >= self.end


class SplitOffsets:
    """An `OffsetTracker` for live records and one for gaps; a partition has at most one gap.

    1. `committable` of a partition names no offset above a record that is not acknowledged, or not read, in its gap
       or after it; it never decreases.
    2. A gap ends when a commit covers its end. Until then `answered` holds the live records that are acknowledged, so
       that a commit covers them, too.
    3. `unacknowledged` and `uncommitted` count both parts.
    4. A revoked partition is forgotten, with its gap.
    """

    def __init__(self, live: OffsetTracker) -> None:
        self.live = live
        self.acknowledgements = 0
        """Records acknowledged since the start."""
        self._old = OffsetTracker()
        self._gaps: dict[Partition, Gap] = {}
        # Those of the start; a commit may cover them before they are read.
        self._answered: dict[Partition, Ranges] = {}

    def open(self, partition: Partition, start: Start) -> None:
        """Adds a partition whose `start` is committed."""
        if start.answered:
            self._answered[partition] = start.answered
        self.live.committed({partition: start.live})
        if start.committed < start.live:
            self._old.committed({partition: start.committed})
            self._gaps[partition] = Gap(first_unanswered(start.answered, start.committed), start.live)

    @property
    def unread(self) -> dict[Partition, Gap]:
        """The gaps that are not read to their end."""
        return {partition: gap for partition, gap in self._gaps.items() if not gap.is_read}

    def pass_over(self, partition: Partition, offset: int) -> None:
        """No record of a gap before `offset` is left to read."""
        if (gap := self._gaps.get(partition)) is not None:
            answered = self._answered.get(partition, ())
            gap.position = first_unanswered(answered, max(gap.position, offset))

    def is_answered(self, partition: Partition, offset: int) -> bool:
        """Whether an earlier worker has answered a record above the committed offset."""
        return first_unanswered(self._answered.get(partition, ()), offset) != offset

    def backlog_of(self, partition: Partition) -> int:
        """Records of a partition's gap that are unread or unacknowledged."""
        gap = self._gaps.get(partition)
        if gap is None:
            return 0
        unread = unanswered(self._answered.get(partition, ()), gap.position, gap.end)
        return unread + self._old.unacknowledged_of([partition])

    @property
    def backlog(self) -> int:
        """Records of all gaps that are unread or unacknowledged."""
        return sum(map(self.backlog_of, self._gaps))

    @property
    def unacknowledged_of_gaps(self) -> int:
        """Records of gaps that were received and are not acknowledged."""
        return self._old.unacknowledged

    @property
    def uncommitted_of_gaps(self) -> int:
        """Records of gaps that were received and that no commit covers."""
        return self._old.uncommitted

    @property
    def unacknowledged(self) -> int:
        """Records received and not acknowledged."""
        return self.live.unacknowledged + self._old.unacknowledged

    @property
    def unacknowledged_bytes(self) -> int:
        """The size of these records."""
        return self.live.unacknowledged_bytes + self._old.unacknowledged_bytes

    @property
    def uncommitted(self) -> int:
        """Records received that no commit covers."""
        return self.live.uncommitted + self._old.uncommitted

    def received(self, partition: Partition, offset: int, size: int = 0) -> None:
        """Adds a record of `size` bytes. The offsets of each part increase, perhaps with holes."""
        self._part(partition, offset).received(partition, offset, size)
        gap = self._gaps.get(partition)
        if gap is not None and offset < gap.end:
            self.pass_over(partition, offset + 1)

    def passed(self, partition: Partition, offset: int) -> None:
        """The log has no more live records before `offset`."""
        self.live.passed(partition, offset)

    def acknowledged(self, partition: Partition, offset: int) -> None:
        """The brokers have the record's answer or dead letter."""
        self._part(partition, offset).acknowledged(partition, offset)
        self.acknowledgements += 1

    def committable(self) -> dict[Partition, int]:
        """The offset to commit for each partition in which a commit would cover more records."""
        live, old = self.live.committable(), self._old.committable()
        found = {p: self._behind_answered(p, offset) for p, offset in live.items() if p not in self._gaps}
        for partition in self._gaps:
            position = self._committable_of_gap(partition)
            if position is not None and (partition in live or partition in old or self._is_complete(partition)):
                found[partition] = position
        return found

    def answered(self, partition: Partition) -> Ranges:
        """Ranges of answered records above the offset that `acknowledged_up_to` returns."""
        position = self.acknowledged_up_to(partition)
        if position is None:
            return ()
        ranges = above(self._answered.get(partition, ()), position)
        gap, end = self._gaps.get(partition), self.live.acknowledged_up_to(partition)
        if gap is None or end is None or position >= gap.end:
            return ranges
        return joined([*ranges, Range(gap.end, end)])

    def committed(self, offsets: Mapping[Partition, int], answered: Mapping[Partition, Ranges] | None = None) -> None:
        """The brokers have stored these offsets, with these ranges of answered records above them."""
        for partition, offset in offsets.items():
            gap = self._gaps.get(partition)
            if gap is None or offset >= gap.end:
                self._end_gap(partition)
                self.live.committed({partition: offset})
                continue
            self._old.committed({partition: offset})
            for _, end in (answered or {}).get(partition, ())[-1:]:
                if end > gap.end:
                    self.live.committed({partition: end})

    def last_committed(self, partition: Partition) -> int | None:
        """The offset of the last commit; None before the first."""
        return (self._old if partition in self._gaps else self.live).last_committed(partition)

    def acknowledged_up_to(self, partition: Partition) -> int | None:
        """The first offset without an acknowledgement or answer; None if not known.

        At first it is the start offset.
        """
        if partition in self._gaps:
            return self._committable_of_gap(partition)
        position = self.live.acknowledged_up_to(partition)
        return None if position is None else self._behind_answered(partition, position)

    def received_up_to(self, partition: Partition) -> int | None:
        """The next offset of live reading; at first its start; None if not known."""
        return self.live.received_up_to(partition)

    def unacknowledged_of(self, partitions: Iterable[Partition]) -> int:
        """Records of these partitions that are not acknowledged."""
        of = list(partitions)
        return self.live.unacknowledged_of(of) + self._old.unacknowledged_of(of)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Drops all records of lost partitions."""
        lost = list(partitions)
        self.live.forget(lost)
        for partition in lost:
            self._end_gap(partition)
            self._answered.pop(partition, None)

    def _end_gap(self, partition: Partition) -> None:
        self._gaps.pop(partition, None)
        self._old.forget([partition])

    def _part(self, partition: Partition, offset: int) -> OffsetTracker:
        gap = self._gaps.get(partition)
        return self._old if gap is not None and offset < gap.end else self.live

    def _behind_answered(self, partition: Partition, offset: int) -> int:
        return first_unanswered(self._answered.get(partition, ()), offset)

    def _is_complete(self, partition: Partition) -> bool:
        return self._gaps[partition].is_read and not self._old.unacknowledged_of([partition])

    def _committable_of_gap(self, partition: Partition) -> int | None:
        part = self.live if self._is_complete(partition) else self._old
        return part.acknowledged_up_to(partition)
