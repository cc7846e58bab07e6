"""Encodes the raw features of one end of a request, all rows at once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from streamer.features.examples import bytes_entry, float_entries, int_entry
from streamer.features.kinds import Numeric
from streamer.features.layout import ExamplePart, Layout
from streamer.features.raw_kinds import RawFeature, Text
from streamer.features.raw_values import Items, Memo, RawValues
from streamer.features.spec import Group
from streamer.types import F64, U64, Texts

_MEMO_BYTES = 16 * 2**20
_EXACT_LIMIT = 2**53


class RawRows(NamedTuple):
    """n rows of raw values.

    Attributes:
        numbers, rests: float64 [n, k], raw integers, and what float64 cannot hold of them.
        texts: bytes [n, texts], text features and parts of Examples.
        words: uint64 [n, w], for the rows' keys: equal only if the model gets equal values. The numbers in Examples are
            not among them.
    """

    numbers: F64
    rests: F64
    texts: Texts
    words: U64


class RawSide:
    """The raw features of a group. The values that it memoises take at most 16 MiB.

    Attributes:
        features: the raw features, in the order of the columns that `encode` takes.
        words: key words of a row.
    """

    def __init__(self, layout: Layout, group: Group, numeric: Sequence[Numeric], out_of_range: Counter[str]) -> None:
        own = [f for f in layout.spec.features if isinstance(f, RawFeature) and layout.spec.group(f) == group]
        self.features: tuple[RawFeature, ...] = tuple(own)
        parts = layout.examples[group]
        memos = len(own) + sum(len(part.entries) for part in parts)
        memo_bytes = _MEMO_BYTES // max(1, memos)
        self._values = {f.name: RawValues(f, out_of_range, memo_bytes) for f in own}
        self._columns = layout.raw[group]
        self._parts = [_Part(part, self._values, numeric, out_of_range, memo_bytes) for part in parts]
        self._text_width = layout.text_width(group)
        self._integers = sum(c.width for c in self._columns if not isinstance(c.feature, Text))
        self._dense_texts = self._text_width - len(parts)
        self._first = len(numeric)
        self.words = self._integers + self._dense_texts + 2 * len(parts)

    def encode(self, values: Sequence[Sequence[object]], numbers: F64, n: int) -> RawRows:
        """Encodes n rows: `values[i]` is for `features[i]`, `numbers` for the numeric features."""
        columns = {f.name: column for f, column in zip(self.features, values, strict=True)}
        items = {name: self._values[name].rows(column) for name, column in columns.items()}
        integers = np.empty((n, self._integers), dtype=np.int64)
        texts = np.empty((n, self._text_width), dtype=np.object_)
        for at in self._columns:
            is_text = isinstance(at.feature, Text)
            start = at.start if is_text else at.start - self._first
            target = (texts if is_text else integers)[:, start : start + at.width]
            flat = np.empty(target.size, target.dtype)
            flat[:] = self._values[at.feature.name].filled(items[at.feature.name])
            target[...] = flat.reshape(target.shape)
        words: list[U64] = [integers.view(np.uint64), _hashes(texts[:, : self._dense_texts])]
        for part in self._parts:
            raw = part.raw(items, n)
            words.append(_part_words(raw))
            texts[:, part.at.start] = part.with_numbers(raw, numbers)
        high = np.where(np.abs(integers) < _EXACT_LIMIT, integers, integers >> 11 << 11)
        rests = (integers - high).astype(np.float64)
        return RawRows(high.astype(np.float64), rests, texts, np.hstack(words))


class _Part:
    """A side's entries of the Examples for one input."""

    def __init__(
        self,
        at: ExamplePart,
        values: dict[str, RawValues],
        numeric: Sequence[Numeric],
        out_of_range: Counter[str],
        memo_bytes: int,
    ) -> None:
        self.at = at
        self._out_of_range = out_of_range
        self._entries = []
        self._numeric = []
        for name, feature in at.entries:
            if isinstance(feature, Numeric):
                self._numeric.append((name, feature, numeric.index(feature)))
            else:
                write = (bytes_entry if isinstance(feature, Text) else int_entry)(name)
                self._entries.append((values[feature.name], Memo[bytes](write, memo_bytes)))

    def raw(self, items: Mapping[str, Sequence[Items]], n: int) -> list[bytes]:
        """The entries of the raw features, by row."""
        columns: list[list[bytes]] = []
        for values, write in self._entries:
            rows = items[values.feature.name]
            if (width := values.feature.max_values or 0) and values.feature.default is not None:
                flat = values.filled(rows)
                rows = [tuple(flat[i : i + width]) for i in range(0, len(flat), width)]
            elif values.feature.default is not None:
                rows = values.filled(rows)
            # Without a default, a missing value and an empty list have no entry.
            known = write.known
            columns.append([known.get(row) or write(row) or b"" for row in rows])
        return [b"".join(row) for row in zip(*columns, strict=True)] if columns else [b""] * n

    def with_numbers(self, raw: list[bytes], numbers: F64) -> list[bytes]:
        """The entries with those of the numeric features, if they have a value or a default."""
        for name, feature, column in self._numeric:
            missing = np.nan if feature.default is None else feature.default
            with np.errstate(over="ignore"):
                values = np.where(np.isnan(numbers[:, column]), missing, numbers[:, column]).astype(np.float32)
            if (infinite := np.isinf(values)).any():
                self._out_of_range[feature.name] += int(infinite.sum())
                values = np.where(infinite, np.float32(missing), values)
            raw = [a + b for a, b in zip(raw, float_entries(name, values), strict=True)]
        return raw


def _hashes(texts: npt.NDArray[np.object_]) -> U64:
    found = [xxhash.xxh3_64_intdigest(text) for text in texts.ravel().tolist()]
    return np.array(found, dtype=np.uint64).reshape(texts.shape)


def _part_words(parts: list[bytes]) -> U64:
    data = b"".join([xxhash.xxh3_128_digest(part) for part in parts])
    return np.frombuffer(data, dtype=">u8").astype(np.uint64).reshape(len(parts), 2)
