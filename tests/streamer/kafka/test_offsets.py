from itertools import takewhile

from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.kafka.offsets import OffsetTracker

P, Q = ("t", 0), ("t", 1)


def received(tracker: OffsetTracker, *offsets: int) -> None:
    for offset in offsets:
        tracker.received(P, offset)


def test_acknowledgements_in_order() -> None:
    tracker = OffsetTracker()
    received(tracker, 5, 6)
    assert tracker.committable() == {}
    tracker.acknowledged(P, 5)
    assert tracker.committable() == {P: 6}
    assert tracker.unacknowledged == 1


def test_acknowledgements_out_of_order_wait_for_the_first_record() -> None:
    tracker = OffsetTracker()
    received(tracker, 5, 6, 7)
    tracker.acknowledged(P, 7)
    tracker.acknowledged(P, 6)
    assert tracker.committable() == {}
    assert tracker.acknowledged_up_to(P) is None
    assert tracker.received_up_to(P) == 8
    tracker.acknowledged(P, 5)
    assert tracker.committable() == {P: 8}
    assert tracker.acknowledged_up_to(P) == 8


def test_gaps_of_a_compacted_log() -> None:
    tracker = OffsetTracker()
    received(tracker, 5, 9, 100)
    tracker.acknowledged(P, 5)
    assert tracker.committable() == {P: 6}
    tracker.acknowledged(P, 9)
    assert tracker.committable() == {P: 10}


def test_a_second_acknowledgement_has_no_effect() -> None:
    tracker = OffsetTracker()
    received(tracker, 5, 6)
    for _ in range(2):
        tracker.acknowledged(P, 6)
    assert tracker.unacknowledged == 1
    for _ in range(2):
        tracker.acknowledged(P, 5)
    assert tracker.unacknowledged == 0


def test_a_committed_offset_is_not_committable_again() -> None:
    tracker = OffsetTracker()
    received(tracker, 5)
    tracker.acknowledged(P, 5)
    tracker.committed(tracker.committable())
    assert tracker.committable() == {}


def test_a_lost_partition_is_forgotten() -> None:
    tracker = OffsetTracker()
    received(tracker, 5, 6)
    tracker.received(Q, 1)
    tracker.acknowledged(P, 5)
    tracker.forget([P])
    assert tracker.unacknowledged == 1
    tracker.acknowledged(P, 6)
    assert tracker.committable() == {}
    assert tracker.unacknowledged == 1
    tracker.acknowledged(Q, 1)
    assert tracker.committable() == {Q: 2}


def test_bytes_are_unacknowledged_until_their_record_is_acknowledged() -> None:
    tracker = OffsetTracker()
    tracker.received(P, 5, 100)
    tracker.received(P, 6, 30)
    tracker.received(Q, 0, 7)
    tracker.acknowledged(P, 6)
    assert tracker.unacknowledged_bytes == 107
    tracker.forget([P])
    assert tracker.unacknowledged_bytes == 7


def test_an_acknowledged_record_is_uncommitted_until_its_commit() -> None:
    tracker = OffsetTracker()
    received(tracker, 5, 6, 7)
    tracker.acknowledged(P, 5)
    before = tracker.committable()
    tracker.acknowledged(P, 6)
    assert tracker.uncommitted == 3
    tracker.committed(before)
    assert tracker.uncommitted == 2
    tracker.committed(tracker.committable())
    assert tracker.uncommitted == 1
    tracker.forget([P])
    assert tracker.uncommitted == 0


def test_a_record_that_a_transaction_committed_before_its_acknowledgement_is_committed() -> None:
    tracker = OffsetTracker()
    received(tracker, 5, 6, 7)
    tracker.committed({P: 7})
    assert tracker.uncommitted == 1
    for offset in (5, 6):
        tracker.acknowledged(P, offset)
    assert tracker.uncommitted == 1
    assert tracker.committable() == {}


def test_a_record_received_below_the_commit_is_not_committable() -> None:
    tracker = OffsetTracker()
    tracker.committed({P: 7})
    received(tracker, 5, 6)
    assert tracker.uncommitted == 0
    tracker.acknowledged(P, 5)
    assert tracker.committable() == {}
    assert tracker.unacknowledged == 1


def test_a_prefix_ends_before_the_first_that_is_not_ready() -> None:
    tracker = OffsetTracker()
    received(tracker, 5, 6, 9, 10)
    assert tracker.prefix(P, {6, 9}) == []
    assert tracker.prefix(P, {5, 6, 10}) == [5, 6]
    tracker.acknowledged(P, 6)
    assert tracker.prefix(P, {5, 9, 10}) == [5, 9, 10]
    assert tracker.prefix(Q, {5}) == []
    assert [tracker.is_unacknowledged(P, offset) for offset in (5, 6, 7)] == [True, False, False]


@settings(max_examples=50)
@given(st.data())
def test_against_a_plain_model(data: st.DataObject) -> None:
    tracker = OffsetTracker()
    state: dict[tuple[str, int], dict[int, bool]] = {}
    reached = {P: -1, Q: -1}  # offsets of a partition rise, also when it comes back
    before: dict[tuple[str, int], int] = {}
    committed: dict[tuple[str, int], int] = {}
    for _ in range(data.draw(st.integers(0, 30))):
        partition = data.draw(st.sampled_from([P, Q]))
        action = data.draw(
            st.sampled_from(["received", "received", "acknowledged", "acknowledged", "commit", "transact", "forget"])
        )
        if action == "received":
            reached[partition] += data.draw(st.integers(1, 3))
            state.setdefault(partition, {})[reached[partition]] = False
            tracker.received(partition, reached[partition], reached[partition])
        elif action == "acknowledged":
            offset = data.draw(st.integers(0, max(0, reached[partition])))
            tracker.acknowledged(partition, offset)
            if offset in state.get(partition, {}):
                state[partition][offset] = True
        elif action == "commit":
            committed.update(tracker.committable())
            tracker.committed(tracker.committable())
            assert tracker.committable() == {}
        elif action == "transact":
            first = tracker.prefix(partition, state.get(partition, {}))
            end = {partition: first[-1] + 1} if first else {}
            tracker.committed(end)
            committed.update(end)
            for offset in first:
                tracker.acknowledged(partition, offset)
                state[partition][offset] = True
        else:
            tracker.forget([partition])
            state.pop(partition, None)
            before.pop(partition, None)
            committed.pop(partition, None)
        for p, offset in tracker.committable().items():
            assert all(done for o, done in state[p].items() if o < offset)
            assert state[p][offset - 1]
            assert offset >= before.get(p, 0)
            before[p] = offset
        unfinished = [o for records in state.values() for o, done in records.items() if not done]
        assert tracker.unacknowledged == len(unfinished) == tracker.unacknowledged_of([P, Q])
        assert tracker.unacknowledged_bytes == sum(unfinished)
        assert tracker.uncommitted == sum(o >= committed.get(p, 0) for p, records in state.items() for o in records)
        for p, records in state.items():
            assert tracker.received_up_to(p) == max(records) + 1
            ready = set(data.draw(st.lists(st.sampled_from(sorted(records)))))
            left = [o for o in sorted(records) if not records[o]]
            assert tracker.prefix(p, ready) == list(takewhile(ready.__contains__, left))
    for p, records in state.items():
        for offset in records:
            tracker.acknowledged(p, offset)
        assert tracker.acknowledged_up_to(p) == max(records) + 1
