"""Joins a request with each of its candidates: pair crosses and keys of the cache."""

from typing import Protocol

import numpy as np

from streamer import native
from streamer.features.hashing import PADDING, join, prepare
from streamer.features.layout import Layout
from streamer.features.spec import FeatureSpec
from streamer.types import I32, U64


class Joiner(Protocol):
    """Joins rows of both ends."""

    def __call__(self, request: U64, candidates: U64, /) -> tuple[I32, U64]:
        """The pair ids, int32 [n, pair columns], and the keys, uint64 [n, 2].

        Both take `SideRows.words`, uint64 [n, pair columns + 2]; `request` can have one row.
        """


def joiner_of(spec: FeatureSpec, layout: Layout) -> Joiner:
    """The joiner of a spec; compiled if possible."""
    pairs = layout.crosses("pair")
    buckets = [cross.buckets for at, cross in pairs for _ in range(at.width)]
    bases = [at.offset for at, _ in pairs for _ in range(at.width)]
    joiner = PythonJoiner(buckets, bases, is_padded=any(spec.is_padded(cross) for _, cross in pairs))
    return joiner if native.module is None else NativeJoiner(buckets, bases, joiner)


class PythonJoiner:
    """Implements `Joiner`."""

    def __init__(self, buckets: list[int], bases: list[int], *, is_padded: bool) -> None:
        self._buckets = np.array(buckets, dtype=np.uint64)
        self._bases = np.array(bases, dtype=np.int32)
        self._is_padded = is_padded

    def __call__(self, request: U64, candidates: U64, /) -> tuple[I32, U64]:
        joined = join(prepare(request), candidates)
        ids = (joined[:, :-2] % self._buckets).astype(np.int32) + self._bases
        if self._is_padded:
            is_padding = (request[:, :-2] == PADDING) | (candidates[:, :-2] == PADDING)
            ids = np.where(is_padding, np.int32(0), ids)
        return ids, joined[:, -2:].copy()


class NativeJoiner:
    """Implements `Joiner` by compiled code, for one request."""

    def __init__(self, buckets: list[int], bases: list[int], of_many: PythonJoiner) -> None:
        assert native.module is not None
        self._pairs = native.module.Pairs(buckets, bases)
        self._of_many = of_many

    def __call__(self, request: U64, candidates: U64, /) -> tuple[I32, U64]:
        if len(request) != 1:
            return self._of_many(request, candidates)
        n = len(candidates)
        ids = np.empty((n, candidates.shape[1] - 2), dtype=np.int32)
        keys = np.empty((n, 2), dtype=np.uint64)
        self._pairs.join(request, np.ascontiguousarray(candidates), ids, keys)
        return ids, keys
