"""How many records may be read, and which partitions are paused."""

import pytest

from streamer.kafka.backpressure import Backpressure
from streamer.kafka.offsets import OffsetTracker
from streamer.settings.sections import SourceSettings
from streamer.types import Partition

P: Partition = ("t", 0)
Q: Partition = ("t", 1)


def backpressure_of(offsets: OffsetTracker, max_uncommitted: int = 1000, **settings: float) -> Backpressure:
    return Backpressure(offsets, SourceSettings.model_validate(settings), max_uncommitted)


def room(backpressure: Backpressure) -> int:
    return backpressure.room(is_isolating=False)


def test_unacknowledged_bytes_stop_reading_until_they_are_acknowledged() -> None:
    offsets = OffsetTracker()
    backpressure = backpressure_of(offsets, max_unacknowledged_bytes=100)
    offsets.received(P, 0, 60)
    assert room(backpressure) > 0
    offsets.received(P, 1, 40)
    assert room(backpressure) <= 0
    offsets.acknowledged(P, 1)
    assert room(backpressure) > 0


def test_unacknowledged_records_stop_reading() -> None:
    offsets = OffsetTracker()
    backpressure = backpressure_of(offsets, max_in_flight_records=9, max_unacknowledged_records=3)
    for offset in range(3):
        assert room(backpressure) == 3 - offset
        offsets.received(P, offset)
    assert room(backpressure) == 0


def test_records_in_flight_stop_reading() -> None:
    backpressure = backpressure_of(OffsetTracker(), max_in_flight_records=9)
    backpressure.in_flight = 7
    assert room(backpressure) == 2


def test_uncommitted_records_stop_reading_even_if_they_are_acknowledged() -> None:
    offsets = OffsetTracker()
    backpressure = backpressure_of(offsets, max_uncommitted=2)
    for offset in range(2):
        offsets.received(P, offset)
        offsets.acknowledged(P, offset)
    assert room(backpressure) == 0
    offsets.committed({P: 1})
    assert room(backpressure) == 1


def test_isolated_records_are_read_one_at_a_time() -> None:
    offsets = OffsetTracker()
    backpressure = backpressure_of(offsets)
    assert backpressure.room(is_isolating=True) == 1
    offsets.received(P, 0)
    assert backpressure.room(is_isolating=True) == 0
    offsets.acknowledged(P, 0)
    assert backpressure.room(is_isolating=True) == 1


def test_a_partition_above_its_share_is_paused_until_half_of_it_is_acknowledged() -> None:
    offsets = OffsetTracker()
    backpressure = backpressure_of(offsets, max_unacknowledged_records=8, max_partition_share=0.5)
    for offset in range(4):
        assert backpressure.pause([P, Q], [P, Q]) == set()
        offsets.received(P, offset)
    assert backpressure.pause([P, Q], [P, Q]) == backpressure.paused == {P}
    offsets.acknowledged(P, 0)
    assert backpressure.resume([P, Q]) == set()
    offsets.acknowledged(P, 1)
    assert backpressure.resume([P, Q]) == {P}
    assert backpressure.paused == set()


@pytest.mark.parametrize("assigned", [[P], [Q], [Q, ("t", 2)]], ids=["only partition", "lost", "lost, two others"])
def test_neither_the_only_partition_nor_a_lost_one_is_paused(assigned: list[Partition]) -> None:
    offsets = OffsetTracker()
    backpressure = backpressure_of(offsets, max_unacknowledged_records=1)
    offsets.received(P, 0)
    assert backpressure.pause([P], assigned) == backpressure.paused == set()


def test_a_lost_partition_is_paused_no_more() -> None:
    offsets = OffsetTracker()
    backpressure = backpressure_of(offsets, max_unacknowledged_records=1)
    offsets.received(P, 0)
    assert backpressure.pause([P], [P, Q]) == {P}
    assert backpressure.resume([Q]) == set()
    assert backpressure.paused == set()
