"""Ranges of answered records above a committed offset, in the commit's metadata. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

from streamer.kafka.poison import PREFIX, is_number

# A commit's metadata is the mark of `streamer.kafka.poison`, followed by the ranges: `… answered 5-9,12-20`. A worker
# of release 0.1 does not know such a mark: it isolates the partition and answers the ranges again.
_WORD = " answered "
MAX_RANGES = 16
"""Ranges in one commit: 660 bytes at most, of the 4,096 that brokers accept by default.

Each release of a partition in the middle of a gap adds one range.
"""


class Range(NamedTuple):
    """Offsets from `start` to `end` - 1."""

    start: int
    end: int


Ranges = tuple[Range, ...]
"""Ranges in order, which neither overlap nor touch each other."""


def parse(metadata: str) -> tuple[str, Ranges]:
    """Splits a commit's metadata into its mark and its ranges.

    Ranges that cannot be read count as none, as do those of another program.
    """
    mark, _, text = metadata.partition(_WORD)
    if not mark.startswith(PREFIX):
        return mark, ()
    found = []
    for part in text.split(",") if text else ():
        start, _, end = part.partition("-")
        if not (is_number(start) and is_number(end)):
            return mark, ()
        found.append(Range(int(start), int(end)))
    return mark, joined(found)


def text(ranges: Ranges) -> str:
    """The end of a commit's metadata, with the last `MAX_RANGES` ranges."""
    if not ranges:
        return ""
    return _WORD + ",".join(f"{start}-{end}" for start, end in ranges[-MAX_RANGES:])


def joined(ranges: Iterable[Range]) -> Ranges:
    """The same offsets as ranges in order; those that touch become one, empty ones vanish."""
    found: list[Range] = []
    for each in sorted(ranges):
        if each.start >= each.end:
            continue
        if found and each.start <= found[-1].end:
            found[-1] = Range(found[-1].start, max(found[-1].end, each.end))
        else:
            found.append(each)
    return tuple(found)


def above(ranges: Ranges, offset: int) -> Ranges:
    """The ranges that reach beyond an offset."""
    return tuple(each for each in ranges if each.end > offset)


def first_unanswered(ranges: Ranges, offset: int) -> int:
    """The first offset from `offset` on that is in no range."""
    for each in ranges:
        if each.start <= offset < each.end:
            return each.end
    return offset


def unanswered(ranges: Ranges, start: int, end: int) -> int:
    """Number of offsets from `start` to `end` - 1 that are in no range."""
    answered = sum(max(0, min(end, each.end) - max(start, each.start)) for each in ranges)
    return max(0, end - start) - answered
