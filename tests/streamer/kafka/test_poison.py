import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.kafka.poison import Caution, Mark

P, Q = ("t", 0), ("t", 1)
RUNNING, CLEAN = Mark(), Mark("clean")


@pytest.mark.parametrize(
    "mark", [RUNNING, CLEAN, Mark("careful", 17), Mark("careful", 17, 12), Mark("careful", 17, 0)], ids=str
)
def test_marks_are_read_as_they_were_written(mark: Mark) -> None:
    assert Mark.parse(str(mark)) == mark


@pytest.mark.parametrize("text", ["", "clean", "ctr-streamer:careful until x", "consumer-1", "ctr-streamer:"])
def test_what_somebody_else_wrote_is_no_clean_end(text: str) -> None:
    assert Mark.parse(text) == RUNNING


def test_a_partition_that_was_left_clean_needs_no_care() -> None:
    caution = Caution(100)
    caution.open(P, CLEAN, 5, 50)
    assert not caution
    assert caution.admit(P, 5) == (None, False)
    assert caution.mark(P) == RUNNING
    assert caution.mark(P, leaving=True) == CLEAN


def test_after_a_crash_each_record_is_named_before_it_is_tried() -> None:
    caution = Caution(100)
    caution.open(P, RUNNING, 5, 8)
    assert caution.admit(P, 5) == (Mark("careful", 8, 5), False)
    assert caution.mark(P) == Mark("careful", 8), "the commit behind the record names nobody"
    assert caution.admit(P, 7) == (Mark("careful", 8, 7), False)
    assert caution.admit(P, 8) == (RUNNING, False), "it was not there when the last worker crashed"
    assert not caution
    assert caution.admit(P, 9) == (None, False)


def test_only_the_record_that_was_alone_is_suspect() -> None:
    caution = Caution(100)
    caution.open(P, Mark("careful", 9, 6), 6, 20)
    assert caution.mark(P, leaving=True) == Mark("careful", 9, 6), "who crashes now must not lose the name"
    assert caution.admit(P, 6) == (Mark("careful", 9, 6), True)
    assert caution.admit(P, 7) == (Mark("careful", 9, 7), False)
    assert caution.admit(P, 9) == (RUNNING, False), "the first worker had read no further"


def test_care_ends_where_nothing_is_left_to_read() -> None:
    caution = Caution(100)
    caution.open(P, RUNNING, 5, 5)
    assert not caution, "nothing was unread"
    caution.open(P, RUNNING, 5, 8)
    caution.open(Q, RUNNING, 0, 8)
    assert not caution.reached(P, 7)
    assert caution.reached(P, 8)
    assert not caution.reached(P, 8)
    assert caution.partitions() == [Q]
    caution.forget(Q)
    assert not caution


def test_care_ends_behind_the_most_that_a_crash_leaves() -> None:
    caution = Caution(2)
    caution.open(P, RUNNING, 0, 1000)
    assert [caution.admit(P, offset).mark == RUNNING for offset in (0, 3, 4)] == [False, False, True]


@given(
    offsets=st.lists(st.integers(1, 3), min_size=1, max_size=30).map(
        lambda gaps: [sum(gaps[:i]) for i in range(len(gaps))]
    ),
    poison=st.integers(0, 29),
    read_ahead=st.integers(1, 30),
    commits=st.integers(0, 29),
)
def test_whatever_was_in_flight_only_the_poison_dies(
    offsets: list[int], poison: int, read_ahead: int, commits: int
) -> None:
    """A worker that dies of one record, again and again, until nothing is left: a model of the whole protocol."""
    poison %= len(offsets)
    end = offsets[-1] + 1
    # The first one crashes with some records in flight, the poison among them, after some commits.
    first = min(commits, poison)
    committed, mark, dead = offsets[first], RUNNING, []
    starts = 0
    while committed < end:
        starts += 1
        assert starts <= 3, "the poison is found by the second crash"
        caution = Caution(max(read_ahead, len(offsets)))
        caution.open(P, Mark.parse(str(mark)), committed, end)
        for offset in [o for o in offsets if o >= committed]:
            admission = caution.admit(P, offset)
            if admission.mark is not None:
                committed, mark = offset, admission.mark
            if admission.is_suspect:
                dead.append(offset)
            elif offset == offsets[poison]:
                break
            committed, mark = offset + 1, caution.mark(P)
        else:
            break
    assert dead == [offsets[poison]]
