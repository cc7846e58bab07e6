"""Compares the score cache with an ideal cache on the same trace. Pure."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from sandbox.world.population import Ints
from streamer.features.hashing import mix64
from streamer.scoring.cache import ScoreCache
from streamer.types import U64, ModelVersion

_VERSION = ModelVersion("ctr", 1)
_TURN_S = 0.02


@dataclass(frozen=True, slots=True)
class HitRatios:
    """Hit ratios on a trace: of the cache, and of an ideal LRU cache with as many entries."""

    cache: float
    ideal: float


def zipf_trace(rows: int, requests: int, candidates: int, *, exponent: float = 1.0, seed: int = 5) -> Ints:
    """Requested rows, [requests, candidates]: the k-th of `rows` has weight 1 / k^exponent."""
    cdf = np.cumsum(1.0 / np.arange(1, rows + 1) ** exponent)
    drawn = np.random.default_rng(seed).random((requests, candidates)) * cdf[-1]
    rows_asked: Ints = np.minimum(np.searchsorted(cdf, drawn, side="right"), rows - 1)
    return rows_asked


def keys_of(rows: int) -> U64:
    """128-bit keys of `rows` rows, uint64 [rows, 2], mixed like the encoder's."""
    n = np.arange(rows, dtype=np.uint64)
    return np.stack([mix64(2 * n + np.uint64(1)), mix64(2 * n + np.uint64(2))], axis=1)


def hit_ratios(cache: ScoreCache, trace: Ints) -> HitRatios:
    """Looks up the trace in both caches, and fills in the missing rows.

    It counts the last two thirds of the trace, and nothing before twice the fill time of the ideal cache: sets fill
    unevenly, so the cache reaches its steady state later.

    Raises:
        ValueError: the trace is too short for that.
    """
    keys = keys_of(int(trace.max()) + 1)
    ideal: OrderedDict[int, None] = OrderedDict()
    asked = found = ideally = 0
    full_at = len(trace)
    for turn, rows in enumerate(trace):
        now = turn * _TURN_S
        hit = cache.lookup(_VERSION, keys[rows], now).known
        missing = keys[rows[~hit]]
        places = cache.reserve(_VERSION, missing, np.arange(len(missing)), 1, now=now, until=now)
        cache.fill(places, np.zeros(len(missing), dtype=np.float32), np.ones(len(missing), dtype=np.bool_), now)
        numbers = rows.tolist()
        known = sum(number in ideal for number in numbers)
        for number in numbers:
            ideal[number] = None
            ideal.move_to_end(number)
        if len(ideal) >= cache.capacity:
            full_at = min(full_at, turn)
        while len(ideal) > cache.capacity:
            ideal.popitem(last=False)
        if turn >= max(len(trace) // 3, 2 * full_at):
            asked += len(rows)
            found += int(hit.sum())
            ideally += known
    if not asked:
        raise ValueError(f"the trace is too short for {cache.capacity} entries")
    return HitRatios(found / asked, ideally / asked)
