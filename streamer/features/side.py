"""Encodes one end of a request (user and context, or candidates), all rows at once."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise, product
from math import expm1, isfinite, isinf
from typing import NamedTuple

import numpy as np

from streamer.features.consent import hidden
from streamer.features.fold import Fold
from streamer.features.hashing import (
    MISSING,
    PADDING,
    TextHasher,
    canonical,
    exact_number,
    hash64,
    mix64,
    to_float,
)
from streamer.features.kinds import Bucketised, Categorical, Cross, HashedFeature, MultiValued, Numeric
from streamer.features.layout import Layout
from streamer.features.paths import getter
from streamer.features.raw_kinds import RawFeature
from streamer.features.raw_side import RawSide
from streamer.features.spec import FeatureSpec, Group
from streamer.types import F32, F64, I32, U64, Texts

_MISSING = np.uint64(MISSING)
# Keys contain numbers rounded to 1/32 standard deviation: with raw prices hardly two keys would be equal.
_STEPS = 32


class SideRows(NamedTuple):
    """n encoded rows of one end.

    Attributes:
        ids: int32 [n, ids], global rows of the fused table.
        floats: float32 [n, floats].
        halves: uint64 [n, pair columns], this end's part of each pair cross.
        keys: uint64 [n, 2], 128-bit hash of the row's values, numbers rounded to 1/32 of their standard deviation.
        numbers: for a foreign model float64 [n, 2 * numbers], the document's numbers and the raw integers, then what
            float64 cannot hold of integers; for other models [n, 0].
        texts: for a foreign model bytes [n, texts], texts and parts of Examples; for other models [n, 0].
    """

    ids: I32
    floats: F32
    halves: U64
    keys: U64
    numbers: F64
    texts: Texts

    def repeated(self, counts: Sequence[int]) -> "SideRows":
        """Row i repeated counts[i] times; sum(counts) rows."""
        return SideRows._make(part.repeat(counts, axis=0) for part in self)


class SideEncoder:
    """Turns columns of raw values into ids, floats, pair halves and keys.

    It uses numpy over all rows and features. All results come from one hash matrix, uint64: one column for
    each categorical feature, then one for each value of a multi-valued feature, then one for each bucketised feature.
    An infinite number counts as missing, and in `out_of_range` by the name of its feature.
    """

    def __init__(self, layout: Layout, *, candidates: bool, hasher: TextHasher, out_of_range: Counter[str]) -> None:
        scalar = [f for f in layout.spec.features if not isinstance(f, Cross | RawFeature)]
        own = [f for f in scalar if (f.side == "candidate") is candidates]
        group: Group = "candidate" if candidates else "request"
        self._hasher = hasher
        self._out_of_range = out_of_range
        self._is_foreign = layout.spec.serving is not None
        self._categorical = [f for f in own if isinstance(f, Categorical)]
        self._multi = [f for f in own if isinstance(f, MultiValued)]
        self._bucketised = [f for f in own if isinstance(f, Bucketised)]
        self._numeric = [c.feature for c in layout.floats[group]]
        self._raw_side = RawSide(layout, group, self._numeric, out_of_range) if self._is_foreign else None
        raw = () if self._raw_side is None else self._raw_side.features
        self.features = (*self._categorical, *self._multi, *self._bucketised, *self._numeric, *raw)
        self.getters = tuple(getter(f.path) for f in self.features)
        self._columns: dict[str, range] = {}
        at = 0
        hashed: tuple[HashedFeature, ...] = (*self._categorical, *self._multi, *self._bucketised)
        for feature in hashed:
            width = layout.spec.width(feature)
            self._columns[feature.name] = range(at, at + width)
            at += width
        self._hash_width = at
        local, halves = (
            [c for _, cross in layout.crosses(which) for c in self._parent_columns(layout.spec, cross)]
            for which in (group, "pair")
        )
        self._local_crosses = len(local)
        self._fold = Fold(local + halves, padded=range(len(self._categorical), at - len(self._bucketised)))
        self._plan_ids(layout, group)
        self._plan_values()
        words = at + len(self._numeric) * (3 if self._is_foreign else 1)
        words += 0 if self._raw_side is None else self._raw_side.words
        self._salts = mix64(np.arange(1, 2 * words + 1, dtype=np.uint64)).reshape(2, -1)

    def _parent_columns(self, spec: FeatureSpec, cross: Cross) -> list[tuple[int, ...]]:
        """For each value of the cross, the hash columns of its parents on this end."""
        parents = spec.parents(cross)
        choices = product(*(range(spec.width(p)) for p in parents))
        return [
            tuple(self._columns[p.name][k] for p, k in zip(parents, choice, strict=True) if p.name in self._columns)
            for choice in choices
        ]

    def _plan_ids(self, layout: Layout, group: Group) -> None:
        self._id_width = layout.id_width(group)
        hashed: list[tuple[int, int, int, int]] = []  # target column, hash column, first row, rows
        crosses: list[tuple[int, int, int]] = []
        self._vocabularies: list[tuple[int, int, int, dict[int, int]]] = []
        self._boundaries: list[tuple[int, int, int]] = []
        for columns in layout.ids[group]:
            feature = columns.feature
            targets = range(columns.start, columns.start + columns.width)
            if isinstance(feature, Cross):
                crosses += [(target, columns.offset, feature.buckets) for target in targets]
                continue
            sources = self._columns[feature.name]
            if isinstance(feature, Categorical) and feature.vocabulary:
                words = {hash64(word): i + 2 for i, word in enumerate(feature.vocabulary)}
                self._vocabularies.append((targets[0], sources[0], columns.offset, words | {MISSING: 0}))
            elif isinstance(feature, Categorical):
                hashed.append((targets[0], sources[0], columns.offset + 1, feature.buckets - 1))
            elif isinstance(feature, MultiValued):
                hashed += [(t, s, columns.offset, feature.buckets) for t, s in zip(targets, sources, strict=True)]
            elif isinstance(feature, Bucketised):
                self._boundaries.append((targets[0], self._bucketised.index(feature), columns.offset))
        plan = np.array(hashed, dtype=np.int64).reshape(-1, 4)
        self._target, self._source, self._base = plan[:, 0], plan[:, 1], plan[:, 2].astype(np.int32)
        self._modulus = plan[:, 3].astype(np.uint64)
        plan = np.array(crosses, dtype=np.int64).reshape(-1, 3)
        self._cross_target, self._cross_base = plan[:, 0], plan[:, 1].astype(np.int32)
        self._cross_modulus = plan[:, 2].astype(np.uint64)

    def _plan_values(self) -> None:
        defaults = [f.default for f in self._categorical]
        self._defaults = np.array([MISSING if d is None else hash64(d) for d in defaults], dtype=np.uint64)
        self._mean = np.array([f.mean for f in self._numeric])
        self._std = np.array([f.std for f in self._numeric])
        self._clip = np.array([f.clip for f in self._numeric])
        self._log = np.array([f.log for f in self._numeric], dtype=bool)
        self._number_defaults = np.array([np.nan if f.default is None else f.default for f in self._numeric])
        self._replacements = np.array([replacement(f) for f in self._numeric])

    def encode_documents(self, documents: Sequence[object], denied: Sequence[bool] = ()) -> SideRows:
        """Encodes n JSON documents (or candidates); values that cannot be used become defaults.

        User features of the documents in which `denied` is set count as missing.
        """
        values: list[list[object]] = [[get(doc) for doc in documents] for get in self.getters]
        if any(denied):
            for feature, column in zip(self.features, values, strict=True):
                if feature.side == "user":
                    column[:] = hidden(column, denied)
        return self.encode(values, len(documents))

    def encode(self, values: Sequence[Sequence[object]], n: int) -> SideRows:
        """Encodes n rows given by columns: `values[i]` holds the n values of `features[i]`."""
        kinds = (self._categorical, self._multi, self._bucketised, self._numeric)
        ends = (*accumulate((len(kind) for kind in kinds), initial=0),)
        categorical, multi, bucketised, numeric = (values[a:b] for a, b in pairwise(ends))
        hashes = np.empty((n, self._hash_width), dtype=np.uint64)
        if categorical:
            flat = self._hasher(list(chain.from_iterable(categorical)))
            texts = flat.reshape(len(categorical), n).T
            hashes[:, : len(categorical)] = np.where(texts == _MISSING, self._defaults, texts)
        self._hash_lists(multi, hashes)
        buckets = [self._bucket(f, v) for f, v in zip(self._bucketised, bucketised, strict=True)]
        if buckets:
            hashes[:, self._hash_width - len(buckets) :] = mix64(np.array(buckets, dtype=np.uint64).T + np.uint64(1))
        raw = self._raw(numeric, n)
        floats = self._standardised(raw)
        folded = self._fold(hashes)
        ids = self._ids(hashes, buckets, folded[:, : self._local_crosses])
        halves = folded[:, self._local_crosses :]
        if self._raw_side is None:
            nothing = np.empty((n, 0))
            return SideRows(ids, floats, halves, self._keys(hashes, floats, []), nothing, nothing.astype(np.object_))
        numbers, rests = self._exact(numeric, raw)
        more = self._raw_side.encode(values[ends[-1] :], raw, n)
        words = [*self._foreign_words(floats, raw, numbers, rests), more.words]
        keys = self._keys(hashes, floats, words)
        return SideRows(ids, floats, halves, keys, np.hstack([numbers, more.numbers, rests, more.rests]), more.texts)

    def _hash_lists(self, values: Sequence[Sequence[object]], hashes: U64) -> None:
        """Fills the columns of the multi-valued features: hashes of present values, then padding."""
        if not values:
            return
        start = len(self._categorical)
        block = hashes[:, start : self._hash_width - len(self._bucketised)]
        block[...] = PADDING
        items: list[object] = []
        rows: list[int] = []
        columns: list[int] = []
        for feature, lists in zip(self._multi, values, strict=True):
            first = self._columns[feature.name].start - start
            for row, value in enumerate(lists):
                present = value if isinstance(value, list) else (value,)
                kept = [v for v in present if canonical(v) is not None][: feature.max_values]
                if not kept and feature.default is not None:
                    kept = [feature.default]
                items += kept
                rows += [row] * len(kept)
                columns += range(first, first + len(kept))
        if items:
            block[rows, columns] = self._hasher(items)

    def _bucket(self, feature: Bucketised, values: Sequence[object]) -> list[int]:
        missing = 0 if feature.default is None else bisect_right(feature.boundaries, feature.default) + 1
        numbers = [to_float(value) for value in values]
        if any(map(isinf, numbers)):
            self._out_of_range[feature.name] += sum(map(isinf, numbers))
        return [bisect_right(feature.boundaries, x) + 1 if isfinite(x) else missing for x in numbers]

    def _raw(self, values: Sequence[Sequence[object]], n: int) -> F64:
        """The numbers as in the documents, float64 [n, floats]; NaN for a missing one."""
        if not values:
            return np.empty((n, 0))
        raw = np.array([[to_float(value) for value in column] for column in values], dtype=np.float64).T
        infinite = np.isinf(raw)
        if infinite.any():
            self._out_of_range.update(self._numeric[i].name for i in np.nonzero(infinite)[1].tolist())
            raw = np.where(infinite, np.nan, raw)
        return raw

    def _standardised(self, raw: F64) -> F32:
        numbers = np.where(np.isnan(raw), self._number_defaults, raw)
        numbers = np.where(self._log, np.log1p(np.maximum(numbers, 0.0)), numbers)
        with np.errstate(over="ignore"):  # infinity is clipped
            scaled = np.clip((numbers - self._mean) / self._std, -self._clip, self._clip)
        return np.where(np.isnan(scaled), 0.0, scaled).astype(np.float32)

    def _exact(self, values: Sequence[Sequence[object]], raw: F64) -> tuple[F64, F64]:
        numbers = np.where(np.isnan(raw), self._replacements, raw)
        rests = np.zeros_like(numbers)
        for row, column in np.argwhere(np.abs(raw) >= 2.0**53).tolist():
            numbers[row, column], rests[row, column] = exact_number(values[column][row])
        return numbers, rests

    def _ids(self, hashes: U64, buckets: Sequence[Sequence[int]], crossed: U64) -> I32:
        ids = np.empty((len(hashes), self._id_width), dtype=np.int32)
        if len(self._target):
            taken = hashes[:, self._source]
            rows = (taken % self._modulus).astype(np.int32) + self._base
            # A categorical feature's base is one row after its row for missing values; padding is row 0 of the table.
            rows = np.where(taken == _MISSING, self._base - 1, rows)
            ids[:, self._target] = np.where(taken == PADDING, 0, rows)
        for target, source, offset, words in self._vocabularies:
            ids[:, target] = [offset + words.get(code, 1) for code in hashes[:, source].tolist()]
        for target, index, offset in self._boundaries:
            ids[:, target] = [offset + bucket for bucket in buckets[index]]
        if self._local_crosses:
            rows = (crossed % self._cross_modulus).astype(np.int32) + self._cross_base
            ids[:, self._cross_target] = np.where(crossed == PADDING, 0, rows)
        return ids

    def _keys(self, hashes: U64, floats: F32, more: Sequence[U64]) -> U64:
        # As float64: with a large `clip` a step exceeds int64. Adding 0 turns -0 into 0.
        steps = (np.rint(floats * np.float32(_STEPS)) + np.float32(0)).astype(np.float64)
        words = np.hstack([hashes, steps.view(np.uint64), *more])
        return mix64(mix64(words[:, None, :] ^ self._salts).sum(axis=2, dtype=np.uint64))

    def _foreign_words(self, floats: F32, raw: F64, numbers: F64, rests: F64) -> list[U64]:
        """What a foreign model gets and `floats` do not tell.

        These are clipped numbers, negative ones of a logarithm, and a missing one, which an Example leaves out.
        """
        differ = (np.abs(floats) >= self._clip.astype(np.float32)) | (self._log & (numbers < 0))
        values = np.where(differ, numbers, 0.0)
        values = np.where(np.isnan(raw) & np.isnan(self._number_defaults), np.nan, values)
        return [values.view(np.uint64), rests.view(np.uint64)]


def replacement(feature: Numeric) -> float:
    """The number that a foreign model gets instead of a missing one: the default, else the mean."""
    if feature.default is not None:
        return feature.default
    return expm1(feature.mean) if feature.log else feature.mean
