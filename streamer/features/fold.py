"""Joins hashes of parents into hashes of crosses, all rows at once."""

from collections.abc import Sequence

import numpy as np

from streamer.features.hashing import PADDING, join, prepare
from streamer.types import U64


class Fold:
    """Joins one, two or three columns of the hash matrix into each of its result columns.

    `PADDING` in any parent column gives `PADDING`; only the columns in `padded` can contain it.
    """

    def __init__(self, parents: Sequence[tuple[int, ...]], padded: range) -> None:
        self._first = np.array([p[0] for p in parents], dtype=np.intp)
        self._more = [
            (np.array([i for i, _ in later], dtype=np.intp), np.array([c for _, c in later], dtype=np.intp))
            for position in (1, 2)
            if (later := [(i, p[position]) for i, p in enumerate(parents) if len(p) > position])
        ]
        self._padded = any(column in padded for p in parents for column in p)

    def __call__(self, hashes: U64) -> U64:
        """The joined columns, uint64 [n, results], of the hashes of n rows."""
        folded = hashes[:, self._first]
        for targets, sources in self._more:
            left, right = folded[:, targets], hashes[:, sources]
            joined = join(prepare(left), right)
            if self._padded:
                joined = np.where((left == PADDING) | (right == PADDING), np.uint64(PADDING), joined)
            folded[:, targets] = joined
        return folded
