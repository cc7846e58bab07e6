"""Evidence in the metadata of commits, the marks beside it, and any text that other programs write there."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.kafka import answered_ranges
from streamer.kafka.answered_ranges import Range, joined
from streamer.kafka.first_position import Log, position_of
from streamer.kafka.log_evidence import Evidence
from streamer.kafka.poison import PREFIX, Mark, PoisonDetector
from streamer.testing.consumer_group import FakeGroup
from streamer.testing.virtual_loop import run_virtual
from tests.streamer.kafka.test_answered_ranges import RANGES
from tests.streamer.kafka.test_positions import produce, started

EVIDENCE = st.builds(Evidence, st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1))
MARKS = st.sampled_from(
    [
        Mark("clean"),
        Mark("running"),
        Mark("running", 0, 2, 4700),
        Mark("isolated", 4711),
        Mark("trying", 4711, 1, 4702),
    ]
)


def parse_of_release_0_1(text: str) -> list[str]:
    """The words that a worker of release 0.1 compares, from its `Mark.parse`."""
    return text.removeprefix(PREFIX).split()


@settings(max_examples=40)
@given(MARKS, EVIDENCE, RANGES)
def test_metadata_keeps_mark_evidence_and_ranges(
    mark: Mark, evidence: Evidence, ranges: answered_ranges.Ranges
) -> None:
    text, found = answered_ranges.parse(f"{mark}{evidence}{answered_ranges.text(ranges)}")
    assert (Mark.parse(text), Evidence.parse(text), found) == (mark, evidence, ranges)


@settings(max_examples=40)
@given(MARKS, EVIDENCE)
def test_earlier_workers_read_the_same_words(mark: Mark, evidence: Evidence) -> None:
    assert parse_of_release_0_1(f"{mark}{evidence}") == parse_of_release_0_1(str(mark))


@pytest.mark.parametrize("text", ["", PREFIX + "clean", PREFIX + "clean  \t", "another program" + " \t" * 24])
def test_metadata_of_earlier_workers_and_other_programs_is_no_evidence(text: str) -> None:
    assert Evidence.parse(text) == Evidence()


def test_more_partitions_than_fit_count_as_the_largest_number() -> None:
    assert Evidence.parse(PREFIX + "clean" + str(Evidence(5, 2**20))) == Evidence(5, 2**16 - 1)


WORDS = st.sampled_from(
    [PREFIX, "clean", "running", "careful until", "trying", "deaths", "at", " answered ", "-", ",", " ", "\t" * 48, "٣"]
)
ANY_TEXT = st.text(max_size=60) | st.lists(WORDS | st.integers().map(str) | st.text(max_size=4), max_size=16).map(
    "".join
)
HUGE = "9" * 5000


@given(ANY_TEXT | ANY_TEXT.map(lambda text: PREFIX + text), st.integers(0, 50), st.integers(0, 50), st.booleans())
def test_no_metadata_breaks_an_opening(metadata: str, offset: int, first: int, is_out_of_range: bool) -> None:
    log = Log(first, first + 20, topic=7)
    position = position_of(offset, metadata, log, is_out_of_range=is_out_of_range)
    assert position.offset in {offset, first}
    assert all(each.end <= log.end for each in position.answered)
    detector = PoisonDetector(10, 3, 2)
    detector.open(("t", 0), position.mark, position.offset, log.end)
    assert len(str(detector.mark(("t", 0), position.offset))) < 200


@settings(max_examples=25, deadline=None)
@given(ANY_TEXT | ANY_TEXT.map(lambda text: PREFIX + text), st.integers(0, 12))
def test_a_partition_with_any_metadata_is_opened_and_answered_to_its_end(metadata: str, offset: int) -> None:
    async def read() -> None:
        group = FakeGroup("t", 1)
        produce(group, 0, [b"r"] * 10)
        group.commits[group.tops[0]] = (offset, metadata)
        async with started(group, is_supervised=True, deadline_from="arrival") as worker:
            await asyncio.sleep(5.0)
        assert group.plain_commit(0)[0] == 10
        assert len(worker.answered) <= 10

    run_virtual(read)


@pytest.mark.parametrize(
    "text",
    [f"careful until {HUGE}", f"running deaths {HUGE} at 0", f"clean answered 0-{HUGE}", f"clean answered {HUGE}-1"],
)
def test_huge_numbers_are_no_numbers(text: str) -> None:
    """Python converts no text of more than 4,300 digits to a number."""
    position = position_of(5, PREFIX + text, Log(0, 10))
    assert (position.offset, position.answered) == (5, ())


def test_an_isolation_ends_at_the_end_of_the_log() -> None:
    detector = PoisonDetector(10, 3, 2)
    detector.open(("t", 0), Mark("isolated", 10**18), 5, 8)
    assert detector.mark(("t", 0), 5) == Mark("isolated", 8)


def test_ranges_beyond_the_log_are_cut() -> None:
    """A log that was truncated and has grown again has other records there."""
    found = position_of(5, PREFIX + "clean answered 7-12,15-20", Log(0, 10))
    assert found.answered == joined([Range(7, 10)])
