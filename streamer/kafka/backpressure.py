"""Decides how many records may be read, and which partitions are paused. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from streamer.kafka.offsets import OffsetTracker
from streamer.settings.sections import SourceSettings
from streamer.types import Partition


@dataclass(slots=True)
class Backpressure:
    """Bounds the records that a worker holds.

    1. At most `max_in_flight_records` are in flight, `max_unacknowledged_records` unacknowledged and `max_uncommitted`
       uncommitted.
    2. Reading stops above `max_unacknowledged_bytes`.
    3. A partition with more than `max_partition_share` of the unacknowledged records is paused, so that the other
       partitions go on. The only partition of a worker is never paused.
    """

    offsets: OffsetTracker
    settings: SourceSettings
    max_uncommitted: int
    in_flight: int = 0
    """Records received and not answered."""
    paused: set[Partition] = field(default_factory=set)

    def room(self, *, is_isolating: bool) -> int:
        """How many records may be read now; none if 0 or less."""
        offsets, settings = self.offsets, self.settings
        if is_isolating:
            return int(not offsets.unacknowledged)
        if offsets.unacknowledged_bytes >= settings.max_unacknowledged_bytes:
            return 0
        return min(
            settings.max_in_flight_records - self.in_flight,
            settings.max_unacknowledged_records - offsets.unacknowledged,
            self.max_uncommitted - offsets.uncommitted,
        )

    def pause(self, read: Iterable[Partition], assigned: Collection[Partition]) -> set[Partition]:
        """Adds partitions that were just read and are above their share to `paused`; returns them."""
        full = {p for p in read if self.offsets.unacknowledged_of([p]) >= self._max_of_partition and p in assigned}
        to_pause = full if len(assigned) > 1 else set()
        self.paused |= to_pause
        return to_pause

    def resume(self, opened: Collection[Partition]) -> set[Partition]:
        """Removes partitions whose share is half acknowledged from `paused`; returns them."""
        # One that was lost and comes back is paused until it is open: its position is not known before.
        self.paused.intersection_update(opened)
        ready = {p for p in self.paused if self.offsets.unacknowledged_of([p]) <= self._max_of_partition / 2}
        self.paused -= ready
        return ready

    @property
    def _max_of_partition(self) -> float:
        return self.settings.max_unacknowledged_records * self.settings.max_partition_share
