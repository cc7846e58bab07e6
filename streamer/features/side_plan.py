"""Where each value of user and context, or of candidates, goes in the encoded form."""

from itertools import product
from typing import NamedTuple

import numpy as np

from streamer.features.hashing import MISSING, hash64, mix64
from streamer.features.kinds import Bucketised, Categorical, Cross, HashedFeature, MultiValued, Numeric
from streamer.features.layout import Layout
from streamer.features.raw_kinds import RawFeature
from streamer.features.spec import FeatureSpec, Group


class HashedIds(NamedTuple):
    """The id in column `target` is `base` + hash % `buckets`.

    Padding has 0, and a missing value `base` - 1.
    """

    target: int
    source: int
    base: int
    buckets: int


class VocabularyIds(NamedTuple):
    """The id in column `target` is `offset` and the row of the hash in `rows`, else 1."""

    target: int
    source: int
    offset: int
    rows: dict[int, int]


class BucketIds(NamedTuple):
    """The id in column `target` is `offset` and the row of bucketised feature number `feature`."""

    target: int
    feature: int
    offset: int


class CrossIds(NamedTuple):
    """The id in column `target` is `base` + joined hash % `buckets`; padding has 0."""

    target: int
    base: int
    buckets: int


class SidePlan:
    """The hash columns, id columns, crosses and key words of one end.

    All results come from hashes: one column for each categorical feature, then one for each value of a multi-valued
    feature, then one for each bucketised feature.

    Attributes:
        columns: the hash columns of a feature, by its name.
        defaults: the hash of a missing value, by categorical feature.
        folds: the hash columns of the parents on this end, for the `local_crosses` values of own crosses, then for
            each value of the pair crosses.
        indicators: the positions in `numeric` of the numbers with an indicator.
        salts: uint64 [2, words] of the rows' keys: a word for each hash column, then for each float, then `more`.
    """

    def __init__(self, layout: Layout, *, candidates: bool, more_words: int) -> None:
        scalar = [f for f in layout.spec.features if not isinstance(f, Cross | RawFeature)]
        own = [f for f in scalar if (f.side == "candidate") is candidates]
        group: Group = "candidate" if candidates else "request"
        self.categorical = [f for f in own if isinstance(f, Categorical)]
        self.multi = [f for f in own if isinstance(f, MultiValued)]
        self.bucketised = [f for f in own if isinstance(f, Bucketised)]
        self.numeric = [c.feature for c in layout.floats[group]]
        self.indicators = [i for i, f in enumerate(self.numeric) if f.missing_indicator]
        hashed: tuple[HashedFeature, ...] = (*self.categorical, *self.multi, *self.bucketised)
        self.features: tuple[HashedFeature | Numeric, ...] = (*hashed, *self.numeric)
        self.columns: dict[str, range] = {}
        at = 0
        for feature in hashed:
            width = layout.spec.width(feature)
            self.columns[feature.name] = range(at, at + width)
            at += width
        self.hash_width = at
        self.padded = range(len(self.categorical), at - len(self.bucketised))
        defaults = [f.default for f in self.categorical]
        self.defaults = [MISSING if default is None else hash64(default) for default in defaults]
        local, halves = (
            [c for _, cross in layout.crosses(which) for c in self._parent_columns(layout.spec, cross)]
            for which in (group, "pair")
        )
        self.local_crosses = len(local)
        self.folds = (*local, *halves)
        self.id_width = layout.id_width(group)
        self._plan_ids(layout, group)
        words = at + layout.float_width(group) + more_words
        self.salts = mix64(np.arange(1, 2 * words + 1, dtype=np.uint64)).reshape(2, -1)

    def _parent_columns(self, spec: FeatureSpec, cross: Cross) -> list[tuple[int, ...]]:
        """For each value of the cross, the hash columns of its parents on this end."""
        parents = spec.parents(cross)
        choices = product(*(range(spec.width(p)) for p in parents))
        return [
            tuple(self.columns[p.name][k] for p, k in zip(parents, choice, strict=True) if p.name in self.columns)
            for choice in choices
        ]

    def _plan_ids(self, layout: Layout, group: Group) -> None:
        self.hashed: list[HashedIds] = []
        self.crosses: list[CrossIds] = []
        self.vocabularies: list[VocabularyIds] = []
        self.buckets: list[BucketIds] = []
        for columns in layout.ids[group]:
            feature = columns.feature
            targets = range(columns.start, columns.start + columns.width)
            if isinstance(feature, Cross):
                self.crosses += [CrossIds(target, columns.offset, feature.buckets) for target in targets]
                continue
            sources = self.columns[feature.name]
            if isinstance(feature, Categorical) and feature.vocabulary:
                rows = {hash64(word): i + 2 for i, word in enumerate(feature.vocabulary)} | {MISSING: 0}
                self.vocabularies.append(VocabularyIds(targets[0], sources[0], columns.offset, rows))
            elif isinstance(feature, Categorical | MultiValued):
                # The first row of a categorical owner is for a missing value.
                first = int(isinstance(columns.owner, Categorical))
                base, buckets = columns.offset + first, columns.rows - first
                self.hashed += [HashedIds(t, s, base, buckets) for t, s in zip(targets, sources, strict=True)]
            elif isinstance(feature, Bucketised):
                self.buckets.append(BucketIds(targets[0], self.bucketised.index(feature), columns.offset))
