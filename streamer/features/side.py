"""Encodes one end of a request (user and context, or candidates), all rows at once."""

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from streamer.features.consent import hidden
from streamer.features.fold import Fold
from streamer.features.hashing import MISSING, PADDING, TextHasher, canonical, mix64, to_floats
from streamer.features.kinds import Bucketised
from streamer.features.layout import Layout
from streamer.features.raw_side import RawSide
from streamer.features.side_numbers import SideNumbers, steps
from streamer.features.side_plan import SidePlan
from streamer.features.spec import Group
from streamer.features.transforms import feature_getter
from streamer.types import F32, F64, I32, U64, Texts

_MISSING = np.uint64(MISSING)
_Column = TypeVar("_Column")


class SideRows(NamedTuple):
    """n encoded rows of one end.

    Attributes:
        ids: int32 [n, ids], global rows of the fused table.
        floats: float32 [n, floats].
        words: uint64 [n, pair columns + 2], this end's part of each pair cross, then a 128-bit hash of the row's
            values, numbers rounded to 1/32 of their standard deviation.
        numbers: for a foreign model float64 [n, 2 * numbers], the document's numbers and the raw integers, then what
            float64 cannot hold of integers; for other models [n, 0].
        texts: for a foreign model bytes [n, texts], texts and parts of Examples; for other models [n, 0].
    """

    ids: I32
    floats: F32
    words: U64
    numbers: F64
    texts: Texts

    @property
    def halves(self) -> U64:
        """This end's part of each pair cross, uint64 [n, pair columns]."""
        return self.words[:, :-2]

    @classmethod
    def plain(cls, ids: I32, floats: F32, words: U64) -> "SideRows":
        """Rows for a model of this project."""
        n = len(ids)
        return cls(ids, floats, words, np.empty((n, 0)), np.empty((n, 0), dtype=np.object_))

    def repeated(self, counts: Sequence[int]) -> "SideRows":
        """Row i repeated counts[i] times; sum(counts) rows."""
        return SideRows._make(part.repeat(counts, axis=0) for part in self)


class HashedRows(NamedTuple):
    """The hashed features of n rows.

    Attributes:
        ids: int32 [n, ids].
        words: uint64 [n, pair columns + 2], as in `SideRows`, but with the sums of the keys' hashed words at its end.
    """

    ids: I32
    words: U64


class FeatureValues(NamedTuple):
    """The features of n rows, from which ids, crosses, pair halves and keys follow.

    Attributes:
        hashes: uint64 [n, hash columns].
        buckets: int32 [n, bucketised features].
        floats: float32 [n, floats].
    """

    hashes: U64
    buckets: I32
    floats: F32


class SideEncoder:
    """Turns columns of raw values into ids, floats, pair halves and keys.

    It uses numpy over all rows and features. An infinite number counts as missing, and in `out_of_range` by the name of
    its feature.
    """

    def __init__(self, layout: Layout, *, candidates: bool, hasher: TextHasher, out_of_range: Counter[str]) -> None:
        group: Group = "candidate" if candidates else "request"
        self._hasher = hasher
        self._out_of_range = out_of_range
        numeric = [c.feature for c in layout.floats[group]]
        self._raw_side = RawSide(layout, group, numeric, out_of_range) if layout.spec.serving is not None else None
        self.is_foreign = self._raw_side is not None
        more_words = 0 if self._raw_side is None else 2 * len(numeric) + self._raw_side.words
        self.plan = plan = SidePlan(layout, candidates=candidates, more_words=more_words)
        self.features = (*plan.features, *(() if self._raw_side is None else self._raw_side.features))
        self.getters = tuple(map(feature_getter, self.features))
        counts = [len(kind) for kind in (plan.categorical, plan.multi, plan.bucketised, plan.numeric)]
        self._ends = (*accumulate(counts, initial=0), len(self.features))
        self._fold = Fold(plan.folds, padded=plan.padded)
        self._numbers = SideNumbers(plan, out_of_range)
        self._plan_arrays()

    def _plan_arrays(self) -> None:
        plan = self.plan
        hashed = np.array(plan.hashed, dtype=np.int64).reshape(-1, 4)
        self._target, self._source, self._base = hashed[:, 0], hashed[:, 1], hashed[:, 2].astype(np.int32)
        self._modulus = hashed[:, 3].astype(np.uint64)
        crosses = np.array(plan.crosses, dtype=np.int64).reshape(-1, 3)
        self._cross_target, self._cross_base = crosses[:, 0], crosses[:, 1].astype(np.int32)
        self._cross_modulus = crosses[:, 2].astype(np.uint64)
        self._defaults = np.array(plan.defaults, dtype=np.uint64)

    def encode_documents(self, documents: Sequence[object], denied: Sequence[bool] = ()) -> SideRows:
        """Encodes n JSON documents (or candidates); values that cannot be used become defaults.

        User features of the documents in which `denied` is set count as missing.
        """
        return self.encode(self.values_of(documents, denied), len(documents))

    def values_of(self, documents: Sequence[object], denied: Sequence[bool] = ()) -> list[list[object]]:
        """The columns of `features` in n documents, as `encode` takes them.

        `denied` is as in `encode_documents`.
        """
        values: list[list[object]] = [[get(doc) for doc in documents] for get in self.getters]
        if any(denied):
            for feature, column in zip(self.features, values, strict=True):
                if feature.side == "user":
                    column[:] = hidden(column, denied)
        return values

    def by_kind(self, values: Sequence[_Column]) -> list[Sequence[_Column]]:
        """Columns of `features` by kind: categorical, multi-valued, bucketised, numeric, raw."""
        return [values[a:b] for a, b in pairwise(self._ends)]

    def encode(self, values: Sequence[Sequence[object]], n: int) -> SideRows:
        """Encodes n rows given by columns: `values[i]` holds the n values of `features[i]`."""
        categorical, multi, bucketised, numeric, raw_values = self.by_kind(values)
        hashed = self.encode_hashed(categorical, multi, self.buckets(bucketised), n)
        raw, floats, sums = self.encode_numbers(numeric, n)
        sums += hashed.words[:, -2:]
        numbers, texts = np.empty((n, 0)), np.empty((n, 0), dtype=np.object_)
        if self._raw_side is not None:
            exact, rests = self._numbers.exact(numeric, raw)
            more = self._raw_side.encode(raw_values, raw, n)
            words = [*self._numbers.foreign_words(floats, raw, exact, rests), more.words]
            sums += self._sums(np.hstack(words), self.plan.hash_width + len(self.plan.numeric))
            numbers, texts = np.hstack([exact, more.numbers, rests, more.rests]), more.texts
        hashed.words[:, -2:] = mix64(sums)
        return SideRows(hashed.ids, floats, hashed.words, numbers, texts)

    def encode_hashed(
        self,
        categorical: Sequence[Sequence[object]],
        multi: Sequence[Sequence[object]],
        buckets: Sequence[Sequence[int]],
        n: int,
    ) -> HashedRows:
        """Encodes the hashed features of n rows, with the buckets of the bucketised ones."""
        return self._hashed_rows(self._hashes(categorical, multi, buckets, n), buckets)

    def _hashed_rows(self, hashes: U64, buckets: Sequence[Sequence[int]]) -> HashedRows:
        folded = self._fold(hashes)
        ids = self._ids(hashes, buckets, folded[:, : self.plan.local_crosses])
        return HashedRows(ids, np.hstack([folded[:, self.plan.local_crosses :], self._sums(hashes, 0)]))

    def value_hashes(self, values: Sequence[Sequence[object]], n: int) -> tuple[U64, U64]:
        """The hashes of n rows, columns as in `encode`: in the order of the plan, and its folds."""
        categorical, multi, bucketised, *_ = self.by_kind(values)
        hashes = self._hashes(categorical, multi, self.buckets(bucketised), n)
        return hashes, self._fold(hashes)

    def feature_values(self, values: Sequence[Sequence[object] | None], n: int) -> FeatureValues:
        """The features of n rows, columns as in `encode`, for a model of this project.

        A feature without a column has any values: the caller replaces them.
        """
        categorical, multi, bucketised, numeric, _ = self.by_kind(values)
        buckets = [
            [0] * n if column is None else self._bucket(feature, column)
            for feature, column in zip(self.plan.bucketised, bucketised, strict=True)
        ]
        hashes = self._hashes(categorical, multi, buckets, n)
        floats = self._numbers.floats(self._numbers.raw(numeric, n))
        return FeatureValues(hashes, np.array(buckets, dtype=np.int32).reshape(len(buckets), n).T, floats)

    def encode_features(self, values: FeatureValues) -> SideRows:
        """The rows of n rows' features: the result of `encode` for the same values."""
        hashed = self._hashed_rows(values.hashes, values.buckets.T.tolist())
        hashed.words[:, -2:] = mix64(hashed.words[:, -2:] + self._float_sums(values.floats))
        return SideRows.plain(hashed.ids, values.floats, hashed.words)

    def keys(self, hashes: U64, floats: F32) -> U64:
        """The keys of n rows with these features, uint64 [n, 2]: the last two words of `SideRows`."""
        return mix64(self._sums(hashes, 0) + self._float_sums(floats))

    def _hashes(
        self,
        categorical: Sequence[Sequence[object] | None],
        multi: Sequence[Sequence[object] | None],
        buckets: Sequence[Sequence[int]],
        n: int,
    ) -> U64:
        hashes = np.empty((n, self.plan.hash_width), dtype=np.uint64)
        if present := [column for column in categorical if column is not None]:
            flat = self._hasher(list(chain.from_iterable(present)))
            texts = flat.reshape(len(present), n).T
            at: slice | list[int] = slice(len(categorical))
            if len(present) < len(categorical):
                at = [i for i, column in enumerate(categorical) if column is not None]
            hashes[:, at] = np.where(texts == _MISSING, self._defaults[at], texts)
        self._hash_lists(multi, hashes)
        if buckets:
            hashes[:, self.plan.padded.stop :] = mix64(np.array(buckets, dtype=np.uint64).T + np.uint64(1))
        return hashes

    def encode_numbers(self, numeric: Sequence[Sequence[object]], n: int) -> tuple[F64, F32, U64]:
        """The numbers of n rows as in the documents, the floats, and their part of the keys' sums.

        They have the shapes [n, numbers], [n, floats] and [n, 2]; NaN is a missing number.
        """
        raw = self._numbers.raw(numeric, n)
        floats = self._numbers.floats(raw)
        return raw, floats, self._float_sums(floats)

    def _float_sums(self, floats: F32) -> U64:
        return self._sums(steps(floats).view(np.uint64), self.plan.hash_width)

    def buckets(self, values: Sequence[Sequence[object]]) -> list[list[int]]:
        """The bucket of each value, by bucketised feature."""
        return [self._bucket(f, v) for f, v in zip(self.plan.bucketised, values, strict=True)]

    def _hash_lists(self, values: Sequence[Sequence[object] | None], hashes: U64) -> None:
        """Fills the columns of the multi-valued features: hashes of present values, then padding."""
        if not values:
            return
        start = self.plan.padded.start
        block = hashes[:, start : self.plan.padded.stop]
        block[...] = PADDING
        items: list[object] = []
        rows: list[int] = []
        columns: list[int] = []
        for feature, lists in zip(self.plan.multi, values, strict=True):
            first = self.plan.columns[feature.name].start - start
            for row, value in enumerate(lists or ()):
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
        numbers = to_floats(values)
        if infinite := int(np.isinf(numbers).sum()):
            self._out_of_range[feature.name] += infinite
        rows = np.searchsorted(feature.boundaries, numbers, side="right") + 1
        found: list[int] = np.where(np.isfinite(numbers), rows, feature.row(np.nan)).tolist()
        return found

    def _ids(self, hashes: U64, buckets: Sequence[Sequence[int]], crossed: U64) -> I32:
        ids = np.empty((len(hashes), self.plan.id_width), dtype=np.int32)
        if len(self._target):
            taken = hashes[:, self._source]
            rows = (taken % self._modulus).astype(np.int32) + self._base
            # A categorical feature's base is one row after its row for missing values; padding is row 0 of the table.
            rows = np.where(taken == _MISSING, self._base - 1, rows)
            ids[:, self._target] = np.where(taken == PADDING, 0, rows)
        for target, source, offset, words in self.plan.vocabularies:
            ids[:, target] = [offset + words.get(code, 1) for code in hashes[:, source].tolist()]
        for target, index, offset in self.plan.buckets:
            ids[:, target] = [offset + bucket for bucket in buckets[index]]
        if self.plan.local_crosses:
            rows = (crossed % self._cross_modulus).astype(np.int32) + self._cross_base
            ids[:, self._cross_target] = np.where(crossed == PADDING, 0, rows)
        return ids

    def _sums(self, words: U64, first: int) -> U64:
        """The part of words `first` and later in the sums, uint64 [n, 2]; a key is `mix64` of one."""
        salts = self.plan.salts[:, first : first + words.shape[1]]
        sums: U64 = mix64(words[:, None, :] ^ salts).sum(axis=2, dtype=np.uint64)
        return sums
