"""Encodes the document of a request: one row, value by value.

For a single row numpy's calls cost more than the work.
"""

import struct
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from math import isfinite, isinf, nan
from typing import NamedTuple, Protocol

import numpy as np

from streamer.features.document_columns import HIGH, Column, Entry, columns_of, key_part
from streamer.features.document_places import places_of
from streamer.features.fold import Fold
from streamer.features.hashing import PADDING, canonical, hash64, join_one, mix_one, to_float
from streamer.features.kinds import Categorical, MultiValued, Numeric
from streamer.features.paths import Getter
from streamer.features.side import SideRows
from streamer.features.side_numbers import STEPS
from streamer.features.side_plan import SidePlan

_WORD = 2**64 - 1
# 1, 1.0 and True are one key of a dict, but True has another text.
_MEMOISED_TYPES = frozenset((str, int, type(None)))
_MAX_MEMOISED = 500
_ENTRY_BYTES = 300  # of a dict entry, and of a tuple of three integers
_FEW_JOINS = 64  # numpy takes as long for all joins as Python for this many
_DOUBLE, _BITS = struct.Struct("<d"), struct.Struct("<Q")


class _List(NamedTuple):
    """A multi-valued feature.

    `padding`: for each number of values, the key parts of the free places after them.
    """

    key: str
    columns: list[Column]
    padding: list[int]
    default: Entry | None


class _Container(NamedTuple):
    """The features whose values lie in one object of the document.

    `scalars`: the key, hash column, id column, memoised entries and the entry of another value; `numbers`: the key and
    position of a numeric feature.
    """

    is_user: bool
    of: Getter
    scalars: list[tuple[str, int, int, dict[object, Entry], Callable[[object], Entry]]]
    lists: list[_List]
    numbers: list[tuple[str, int]]


class _Ranges(Protocol):
    """A feature kind that has a row for each number."""

    @property
    def name(self) -> str: ...
    def row(self, number: float, /) -> int: ...


class DocumentEncoder:
    """Encodes documents one at a time, with the bits that `SideEncoder` gives. Not thread-safe.

    Invariant: `used_bytes`, of the memoised values and their entries, is at most `max_bytes`, or that of one value.
    Without room for a value all are dropped.
    """

    def __init__(self, plan: SidePlan, out_of_range: Counter[str], max_bytes: int = 4 * 2**20) -> None:
        self._plan = plan
        self._out_of_range = out_of_range
        self._max_bytes = max_bytes
        self.used_bytes = 0
        self._columns = columns_of(plan)
        salts: list[tuple[int, int]] = list(zip(*plan.salts[:, plan.hash_width :].tolist(), strict=True))
        self._steps: list[tuple[tuple[int, int], dict[float, int]]] = [(pair, {}) for pair in salts]
        self._containers = self._grouped()
        self._first = [parents[0] for parents in plan.folds]
        self._more = [(i, parents[1:]) for i, parents in enumerate(plan.folds) if len(parents) > 1]
        is_long = sum(len(others) for _, others in self._more) > _FEW_JOINS
        self._fold = Fold(plan.folds, padded=plan.padded) if is_long else None

    def _grouped(self) -> list[_Container]:
        """The features by the object that holds them."""
        plan = self._plan
        containers, places = places_of(plan)
        found = [_Container(container.is_user, container.getter(), [], [], []) for container in containers]
        for position, (feature, (index, key)) in enumerate(zip(plan.features, places, strict=True)):
            container = found[index]
            if isinstance(feature, Numeric):
                container.numbers.append((key, position - len(plan.features) + len(plan.numeric)))
            elif isinstance(feature, MultiValued):
                container.lists.append(self._list(feature, key))
            else:
                column = self._columns[plan.columns[feature.name][0]]
                entry_of = self._text(column) if isinstance(feature, Categorical) else self._bucket(feature, column)
                container.scalars.append((key, column.at, column.target, column.known, entry_of))
        return found

    def encode(self, document: Mapping[str, object], *, denied: bool) -> SideRows:
        """Encodes one document as one row; values that cannot be used become defaults.

        With `denied`, user features count as missing.
        """
        hashes = [PADDING] * len(self._columns)
        ids = [0] * (self._plan.id_width + 1)  # the last one is for columns without an id
        numbers: list[object] = [None] * len(self._plan.numeric)
        key = 0
        for is_user, of, scalars, lists, numeric in self._containers:
            container = None if denied and is_user else of(document)
            get = container.get if isinstance(container, dict) else _nothing
            for name, index, target, known, entry_of in scalars:
                value = get(name)
                entry = known.get(value) if type(value) in _MEMOISED_TYPES else None
                hashes[index], ids[target], part = entry or entry_of(value)
                key += part
            for feature in lists:
                key += self._encode_list(feature, get(feature.key), hashes, ids)
            for name, position in numeric:
                numbers[position] = get(name)
        scaled = list(map(self._standardised, self._plan.numeric, numbers))
        if self._plan.indicators:
            scaled += [float(not isfinite(to_float(numbers[i]))) for i in self._plan.indicators]
        floats = np.array([scaled], dtype=np.float32)
        for x, (salts, parts) in zip(floats[0].tolist(), self._steps, strict=True):
            step = float(round(x * STEPS))
            part = parts.get(step) or self._step(step, salts, parts)
            key += part
        halves = self._crossed(hashes, ids)
        words = (*halves, mix_one(key & _WORD), mix_one(key >> HIGH & _WORD))
        return SideRows.plain(np.array([ids[:-1]], dtype=np.int32), floats, np.array([words], dtype=np.uint64))

    def _encode_list(self, feature: _List, value: object, hashes: list[int], ids: list[int]) -> int:
        """Writes the values of a list; returns their part of the key."""
        columns, used, key = feature.columns, 0, 0
        for item in value if isinstance(value, list) else (value,):
            if used == len(columns):
                break
            column = columns[used]
            entry = column.known.get(item) if type(item) in _MEMOISED_TYPES else None
            if entry is None:
                text = canonical(item)
                if text is None:
                    continue
                code = hash64(text)
                entry = column.entry(code, code)
                self._memoise(column.known, item, entry)
            hashes[column.at], ids[column.target], part = entry
            key += part
            used += 1
        if not used and feature.default is not None:
            hashes[columns[0].at], ids[columns[0].target], key = feature.default
            used = 1
        return key + feature.padding[used]

    def _crossed(self, hashes: list[int], ids: list[int]) -> list[int]:
        """Writes the ids of the own crosses; returns the halves of the pair crosses."""
        if self._fold is not None:
            folded: list[int] = self._fold(np.array([hashes], dtype=np.uint64))[0].tolist()
        else:
            folded = [hashes[column] for column in self._first]
            for i, others in self._more:
                for column in others:
                    folded[i] = join_one(folded[i], hashes[column])
        own = self._plan.crosses
        for code, (target, base, buckets) in zip(folded, own, strict=False):
            ids[target] = 0 if code == PADDING else base + code % buckets
        return folded[len(own) :]

    def _standardised(self, feature: Numeric, value: object) -> float:
        number = to_float(value)
        if isinf(number):
            self._out_of_range[feature.name] += 1
            number = nan
        if number != number and feature.default is not None:  # noqa: PLR0124  only NaN differs from itself
            number = feature.default
        if feature.log:
            number = float(np.log1p(max(number, 0.0) + 0.0))  # not math.log1p: its last bit may differ
        scaled = (number - feature.mean) / feature.std
        if scaled != scaled:  # noqa: PLR0124
            return 0.0
        return max(-feature.clip, min(feature.clip, scaled))

    def _step(self, step: float, salts: tuple[int, int], parts: dict[float, int]) -> int:
        (bits,) = _BITS.unpack(_DOUBLE.pack(step))
        part = key_part(bits, salts)
        self._count(_ENTRY_BYTES)
        parts[step] = part
        return part

    def _text(self, column: Column) -> Callable[[object], Entry]:
        default = self._plan.defaults[column.at]

        def entry_of(value: object) -> Entry:
            text = canonical(value)
            code = default if text is None else hash64(text)
            entry = column.entry(code, code)
            self._memoise(column.known, value, entry)
            return entry

        return entry_of

    def _bucket(self, feature: _Ranges, column: Column) -> Callable[[object], Entry]:
        by_row: dict[int, Entry] = {}

        def entry_of(value: object) -> Entry:
            number = to_float(value)
            row = feature.row(number)
            if row not in by_row:
                by_row[row] = column.entry(mix_one(row + 1), row)
            if isinf(number):
                self._out_of_range[feature.name] += 1  # each time, so it is not memoised
            else:
                self._memoise(column.known, value, by_row[row])
            return by_row[row]

        return entry_of

    def _list(self, feature: MultiValued, key: str) -> _List:
        columns = [self._columns[i] for i in self._plan.columns[feature.name]]
        parts = [key_part(PADDING, column.salts) for column in columns]
        code = None if feature.default is None else hash64(feature.default)
        default = None if code is None else columns[0].entry(code, code)
        return _List(key, columns, [sum(parts[used:]) for used in range(len(parts) + 1)], default)

    def _memoise(self, known: dict[object, Entry], value: object, entry: Entry) -> None:
        size = sys.getsizeof(value) + _ENTRY_BYTES
        if type(value) in _MEMOISED_TYPES and size <= _MAX_MEMOISED:
            self._count(size)
            known[value] = entry

    def _count(self, size: int) -> None:
        """Counts bytes to memoise; without room for them all values are dropped."""
        self.used_bytes += size
        if self.used_bytes > self._max_bytes:
            for column in self._columns:
                column.known.clear()
            for _, parts in self._steps:
                parts.clear()
            self.used_bytes = size


def _nothing(_: str) -> None:
    return None
