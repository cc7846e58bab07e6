import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.kafka.poison import Mark, PoisonDetector

P, Q = ("t", 0), ("t", 1)
RUNNING, CLEAN = Mark(), Mark("clean")


@pytest.mark.parametrize(
    "mark", [RUNNING, CLEAN, Mark("isolated", 17), Mark("isolated", 17, 12), Mark("isolated", 17, 0)], ids=str
)
def test_a_mark_is_parsed_as_it_was_written(mark: Mark) -> None:
    assert Mark.parse(str(mark)) == mark


def test_the_wire_format_is_that_of_release_0_1() -> None:
    assert [str(mark) for mark in (RUNNING, CLEAN, Mark("isolated", 17), Mark("isolated", 17, 12))] == [
        "ctr-streamer:running",
        "ctr-streamer:clean",
        "ctr-streamer:careful until 17",
        "ctr-streamer:careful until 17 trying 12",
    ]


@pytest.mark.parametrize("text", ["", "clean", "ctr-streamer:careful until x", "consumer-1", "ctr-streamer:"])
def test_metadata_of_another_program_is_no_clean_mark(text: str) -> None:
    assert Mark.parse(text) == RUNNING


def test_a_partition_that_was_left_clean_is_not_isolated() -> None:
    detector = PoisonDetector(100)
    detector.open(P, CLEAN, 5, 50)
    assert not detector.isolated
    assert detector.admit(P, 5) == (None, False)
    assert detector.mark(P) == RUNNING
    assert detector.mark(P, leaving=True) == CLEAN


def test_after_a_crash_each_record_is_named_before_it_is_processed() -> None:
    detector = PoisonDetector(100)
    detector.open(P, RUNNING, 5, 8)
    assert detector.admit(P, 5) == (Mark("isolated", 8, 5), False)
    assert detector.mark(P) == Mark("isolated", 8), "the commit after the record names no record"
    assert detector.admit(P, 7) == (Mark("isolated", 8, 7), False)
    assert detector.admit(P, 8) == (RUNNING, False), "it was produced after the last worker crashed"
    assert not detector.isolated
    assert detector.admit(P, 9) == (None, False)


def test_only_the_record_that_was_alone_in_flight_is_suspect() -> None:
    detector = PoisonDetector(100)
    detector.open(P, Mark("isolated", 9, 6), 6, 20)
    assert detector.mark(P, leaving=True) == Mark("isolated", 9, 6), "a crash now must not lose the name"
    assert detector.admit(P, 6) == (Mark("isolated", 9, 6), True)
    assert detector.admit(P, 7) == (Mark("isolated", 9, 7), False)
    assert detector.admit(P, 9) == (RUNNING, False), "the first worker had read no further"


def test_isolation_ends_when_nothing_is_left_to_read() -> None:
    detector = PoisonDetector(100)
    detector.open(P, RUNNING, 5, 5)
    assert not detector.isolated, "no record was unread"
    detector.open(P, RUNNING, 5, 8)
    detector.open(Q, RUNNING, 0, 8)
    assert not detector.end_isolation(P, 7)
    assert detector.end_isolation(P, 8)
    assert not detector.end_isolation(P, 8)
    assert list(detector.isolated) == [Q]
    detector.forget(Q)
    assert not detector.isolated


def test_isolation_ends_after_the_most_records_that_a_crash_leaves() -> None:
    detector = PoisonDetector(2)
    detector.open(P, RUNNING, 0, 1000)
    assert [detector.admit(P, offset).mark == RUNNING for offset in (0, 3, 4)] == [False, False, True]


@given(
    offsets=st.lists(st.integers(1, 3), min_size=1, max_size=30).map(
        lambda gaps: [sum(gaps[:i]) for i in range(len(gaps))]
    ),
    poison=st.integers(0, 29),
    read_ahead=st.integers(1, 30),
    commits=st.integers(0, 29),
)
def test_only_the_poison_is_dead_lettered_whatever_was_in_flight(
    offsets: list[int], poison: int, read_ahead: int, commits: int
) -> None:
    """A model of the whole protocol: workers die of one record until no record is left."""
    poison %= len(offsets)
    end = offsets[-1] + 1
    # The first worker crashes after some commits, with some records in flight, the poison among them.
    first = min(commits, poison)
    committed, mark, dead = offsets[first], RUNNING, []
    starts = 0
    while committed < end:
        starts += 1
        assert starts <= 3, "the poison is found by the second crash"
        detector = PoisonDetector(max(read_ahead, len(offsets)))
        detector.open(P, Mark.parse(str(mark)), committed, end)
        for offset in [o for o in offsets if o >= committed]:
            admission = detector.admit(P, offset)
            if admission.mark is not None:
                committed, mark = offset, admission.mark
            if admission.is_suspect:
                dead.append(offset)
            elif offset == offsets[poison]:
                break
            committed, mark = offset + 1, detector.mark(P)
        else:
            break
    assert dead == [offsets[poison]]
