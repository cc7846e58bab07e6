from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.kafka.answered_ranges import (
    MAX_RANGES,
    Range,
    Ranges,
    above,
    first_unanswered,
    joined,
    parse,
    text,
    unanswered,
)

MARK = "ctr-streamer:running"
OFFSETS = st.integers(0, 40)
RANGES = st.lists(st.builds(Range, OFFSETS, OFFSETS), max_size=6).map(joined)


def offsets(ranges: Ranges) -> set[int]:
    return {offset for start, end in ranges for offset in range(start, end)}


@given(RANGES)
def test_metadata_keeps_mark_and_ranges(ranges: Ranges) -> None:
    assert parse(MARK + text(ranges)) == (MARK, ranges)


def test_a_mark_without_ranges_is_unchanged() -> None:
    assert text(()) == ""
    assert parse("ctr-streamer:careful until 4711 trying 4702") == ("ctr-streamer:careful until 4711 trying 4702", ())


@pytest.mark.parametrize("bad", ["x", "5", "5-", "-5", "5-9,", "5-9,x-12", "5-9 12-20", "-5-9", "١-٢x"])
def test_ranges_that_cannot_be_read_count_as_none(bad: str) -> None:
    assert parse(f"{MARK} answered {bad}") == (MARK, ())


def test_the_newest_ranges_stay_within_the_brokers_limit() -> None:
    far = 2**63 - 200
    ranges = tuple(Range(far + 2 * i, far + 2 * i + 1) for i in range(99))
    metadata = f"ctr-streamer:careful until {far} trying {far}" + text(ranges)
    assert parse(metadata)[1] == ranges[-MAX_RANGES:]
    assert len(metadata) < 4096


@given(st.lists(st.builds(Range, OFFSETS, OFFSETS)))
def test_joined_ranges_have_the_same_offsets_in_order_and_apart(ranges: list[Range]) -> None:
    found = joined(ranges)
    assert offsets(found) == offsets(tuple(ranges))
    assert all(start < end for start, end in found)
    assert all(before.end < after.start for before, after in pairwise(found))


@given(RANGES, OFFSETS, OFFSETS)
def test_against_sets(ranges: Ranges, start: int, end: int) -> None:
    held = offsets(ranges)
    assert unanswered(ranges, start, end) == len(set(range(start, end)) - held)
    assert first_unanswered(ranges, start) == min(set(range(start, 50)) - held)
    assert {o for o in offsets(above(ranges, start)) if o >= start} == {o for o in held if o >= start}
    assert all(each.end > start for each in above(ranges, start))
