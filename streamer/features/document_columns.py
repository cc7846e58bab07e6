"""The hash columns of a document: the id and the part of the key that each value has."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from streamer.features.hashing import MISSING, PADDING, mix_one
from streamer.features.side_plan import SidePlan

HIGH = 96
"""The bit at which the second half of a sum of key parts starts: the carry of the first half does not reach it."""

Entry = tuple[int, int, int]
"""A value of a hash column: its hash, its id, and its part of the row's key, whose second half starts at bit 96."""


class _Target(NamedTuple):
    column: int
    id_of: Callable[[int], int]


class Column(NamedTuple):
    """A hash column: its id column, the salts of its key word, and memoised entries by value.

    `id_of`: the id of a hash, or in the column of a bucketised feature of a row.
    """

    at: int
    target: int
    id_of: Callable[[int], int]
    salts: tuple[int, int]
    known: dict[object, Entry]

    def entry(self, value_hash: int, code: int) -> Entry:
        return value_hash, self.id_of(code), key_part(value_hash, self.salts)


def columns_of(plan: SidePlan) -> list[Column]:
    """The hash columns of the plan. Without ids, their id column is the one after the last."""
    targets = _targets(plan)
    salts = list(zip(*plan.salts.tolist(), strict=True))
    without = _Target(plan.id_width, _no_id)
    return [Column(i, *targets.get(i, without), salts[i], {}) for i in range(plan.hash_width)]


def key_part(word: int, salts: tuple[int, int]) -> int:
    """The part of a word of 64 bits in both halves of a row's key."""
    return mix_one(word ^ salts[0]) | mix_one(word ^ salts[1]) << HIGH


def _targets(plan: SidePlan) -> dict[int, _Target]:
    """By hash column, the id column and the id of a hash; for a bucketised feature, of its row."""
    found: dict[int, _Target] = {}
    for target, source, base, buckets in plan.hashed:
        found[source] = _Target(target, partial(_hashed_id, base, buckets))
    for target, source, offset, rows in plan.vocabularies:
        found[source] = _Target(target, partial(_word_id, offset, rows))
    for target, feature, offset in plan.buckets:
        found[plan.padded.stop + feature] = _Target(target, offset.__add__)
    return found


def _hashed_id(base: int, buckets: int, code: int) -> int:
    if code == PADDING:
        return 0
    return base - 1 if code == MISSING else base + code % buckets


def _no_id(_: int) -> int:
    return 0


def _word_id(offset: int, rows: Mapping[int, int], code: int) -> int:
    return offset + rows.get(code, 1)
