"""Slow reference implementations of crossing layers, as in their papers."""

import numpy as np

from streamer.types import F32


def cin_by_loops(before: F32, fields: F32, weights: F32) -> F32:
    """X^k [n, H, dim], by loops in NumPy.

    Args:
        before: X^(k-1) [n, H before, dim].
        fields: X^0 [n, m, dim].
        weights: [H, H before, m].
    """
    maps = np.zeros((len(fields), len(weights), fields.shape[2]), np.float32)
    for h, i, j in np.ndindex(weights.shape):
        maps[:, h] += weights[h, i, j] * before[:, i] * fields[:, j]
    return maps
