from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.kafka.answered_ranges import Range, Ranges, first_unanswered, joined
from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.split_offsets import SplitOffsets, Start

P, Q = ("t", 0), ("t", 1)


def opened(start: Start) -> SplitOffsets:
    offsets = SplitOffsets(OffsetTracker())
    offsets.open(P, start)
    return offsets


def read_gap(offsets: SplitOffsets, *numbers: int) -> None:
    for number in numbers:
        offsets.received(P, number)


def test_live_records_are_committed_by_their_range_until_the_gap_is_answered() -> None:
    offsets = opened(Start(5, 8))
    assert offsets.committable() == {}
    offsets.received(P, 8)
    offsets.acknowledged(P, 8)
    assert offsets.committable() == {P: 5}
    assert offsets.answered(P) == (Range(8, 9),)
    offsets.committed({P: 5}, {P: (Range(8, 9),)})
    assert (offsets.committable(), offsets.uncommitted) == ({}, 0)
    read_gap(offsets, 5, 6, 7)
    assert offsets.unread == {}
    offsets.acknowledged(P, 6)
    assert offsets.committable() == {}
    offsets.acknowledged(P, 5)
    assert offsets.committable() == {P: 7}
    offsets.acknowledged(P, 7)
    assert (offsets.committable(), offsets.answered(P)) == ({P: 9}, ())
    offsets.committed({P: 9})
    assert (offsets.committable(), offsets.last_committed(P), offsets.uncommitted) == ({}, 9, 0)


def test_a_gap_is_not_passed_before_it_is_read() -> None:
    offsets = opened(Start(5, 8))
    read_gap(offsets, 5)
    offsets.acknowledged(P, 5)
    assert offsets.committable() == {P: 6}
    assert offsets.backlog_of(P) == 2
    offsets.pass_over(P, 8)
    assert offsets.committable() == {P: 8}, "its last offsets belong to no record"
    assert offsets.backlog == 0


def test_ranges_of_earlier_workers_are_kept_until_the_commit_has_passed_them() -> None:
    offsets = opened(Start(5, 20, (Range(7, 9), Range(12, 20))))
    assert [offsets.is_answered(P, offset) for offset in (6, 7, 8, 9)] == [False, True, True, False]
    assert offsets.backlog == 2 + 3
    offsets.received(P, 20)
    offsets.acknowledged(P, 20)
    assert offsets.answered(P) == (Range(7, 9), Range(12, 21))
    read_gap(offsets, 5, 6)
    assert offsets.unread[P].position == 9
    read_gap(offsets, 9)
    for offset in (5, 6, 9):
        offsets.acknowledged(P, offset)
    assert (offsets.committable(), offsets.answered(P)) == ({P: 10}, (Range(12, 21),))
    read_gap(offsets, 10, 11)
    assert offsets.unread == {}
    offsets.committed(offsets.committable(), {P: offsets.answered(P)})
    for offset in (10, 11):
        offsets.acknowledged(P, offset)
    assert offsets.committable() == {P: 21}


def test_a_partition_without_a_gap_keeps_its_ranges_for_its_commits() -> None:
    offsets = opened(Start(5, 5, (Range(7, 9),)))
    assert offsets.unread == {}
    offsets.received(P, 5)
    offsets.acknowledged(P, 5)
    assert (offsets.committable(), offsets.answered(P)) == ({P: 6}, (Range(7, 9),))
    offsets.received(P, 6)
    offsets.acknowledged(P, 6)
    assert (offsets.committable(), offsets.answered(P)) == ({P: 9}, ())
    offsets.committed({P: 9})
    assert offsets.committable() == {}
    assert offsets.is_answered(P, 8), "the consumer has not passed it yet"


def test_a_lost_partition_is_forgotten_with_its_gap() -> None:
    offsets = opened(Start(5, 8, (Range(6, 7),)))
    offsets.open(Q, Start(0, 4))
    read_gap(offsets, 5)
    offsets.received(P, 8, 100)
    offsets.received(Q, 0, 7)
    assert (offsets.unacknowledged, offsets.unacknowledged_of([P]), offsets.unacknowledged_bytes) == (3, 2, 107)
    gap = offsets.unread[P]
    offsets.forget([P])
    assert (offsets.unacknowledged, offsets.uncommitted, offsets.backlog) == (1, 1, 4)
    assert (offsets.answered(P), offsets.last_committed(P), offsets.received_up_to(P)) == ((), None, None)
    offsets.open(P, Start(5, 8))
    assert offsets.unread[P] is not gap, "records read for the old one do not belong to the new one"


@settings(max_examples=200)
@given(st.data())
def test_against_a_plain_model(data: st.DataObject) -> None:
    committed = data.draw(st.integers(0, 5))
    numbers = st.integers(committed + 1, committed + 20)
    answered: Ranges = joined(data.draw(st.lists(st.builds(Range, numbers, numbers), max_size=3)))
    live = max(committed + data.draw(st.integers(0, 20)), answered[-1].end if answered else 0)
    held = {offset for start, end in answered for offset in range(start, end)}
    offsets = opened(Start(committed, live, answered))
    # Records of the gap and live ones, each perhaps acknowledged; None: not read.
    state: dict[int, bool | None] = {o: None for o in range(committed, live) if o not in held}
    next_live, stored, stored_ranges = live, committed, answered
    for _ in range(data.draw(st.integers(0, 60))):
        action = data.draw(st.sampled_from(["gap", "gap", "live", "acknowledge", "acknowledge", "commit"]))
        unread = [o for o, done in state.items() if done is None]
        unfinished = [o for o, done in state.items() if done is False]
        if action == "gap" and unread:
            assert offsets.unread[P].position <= unread[0]
            offsets.received(P, unread[0], unread[0])
            state[unread[0]] = False
        elif action == "live":
            offsets.received(P, next_live, next_live)
            state[next_live] = False
            next_live += 1
        elif action == "acknowledge" and unfinished:
            offset = data.draw(st.sampled_from(unfinished))
            offsets.acknowledged(P, offset)
            state[offset] = True
        elif action == "commit":
            found = offsets.committable()
            if found:
                ranges = {P: offsets.answered(P)}
                assert found[P] > stored or ranges[P] != stored_ranges, "a commit that changes nothing"
                stored, stored_ranges = found[P], ranges[P]
                offsets.committed(found, ranges)
            assert offsets.committable() == {}
            # A crash brings back exactly the records that have no answer, and those acknowledged out of order.
            again = {o for o in range(stored, next_live) if first_unanswered(stored_ranges, o) == o}
            assert {o for o, done in state.items() if not done} <= again
            assert not again & held
            received = {o for o, done in state.items() if done is not None}
            assert offsets.uncommitted == len(again & received)
        finished = [o for o, done in state.items() if done is False]
        assert offsets.unacknowledged == len(finished) == offsets.unacknowledged_of([P])
        assert offsets.unacknowledged_bytes == sum(finished)
        assert offsets.last_committed(P) == stored
        assert offsets.received_up_to(P) == next_live
        assert offsets.backlog_of(P) <= sum(not state[o] for o in range(committed, live) if o not in held)
        position = offsets.acknowledged_up_to(P)
        assert position is not None
        assert position >= stored
        assert all(state.get(o) or o in held for o in range(committed, position))
    finish(offsets, state, next_live)


def finish(offsets: SplitOffsets, state: dict[int, bool | None], next_live: int) -> None:
    for offset in [o for o, done in state.items() if done is None]:
        offsets.received(P, offset)
    for offset in state:
        offsets.acknowledged(P, offset)
    assert offsets.unread == {}
    assert offsets.acknowledged_up_to(P) == next_live
    offsets.committed(offsets.committable(), {P: offsets.answered(P)})
    assert offsets.last_committed(P) == next_live
    assert offsets.uncommitted == offsets.unacknowledged == offsets.backlog == 0
