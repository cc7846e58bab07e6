"""Scores already known, by model version and encoded row. Looked up for a whole request at once."""

import numpy as np
import numpy.typing as npt
import xxhash

from streamer.settings import CacheSettings
from streamer.types import F32, U64, ModelVersion

_WAYS = 8
_TICKS_PER_SECOND = 100
_NEVER = 2**32 - 1
_BYTES_PER_ENTRY = 8 + 8 + 4 + 4 + 4

Bools = npt.NDArray[np.bool_]


class ScoreCache:
    """A set-associative table of click probabilities: 8 entries a set, the least recently used one of a set goes first.

    Promises: never more than `max_bytes`; never an entry older than `ttl_s`. Invariants: (1) what is found was inserted
    under the same 128-bit key for the same model version (two different rows share a key with odds of about n² / 2^129
    among n rows); (2) lookups and inserts are numpy operations over all candidates of a request; (3) time is an
    argument, in monotonic seconds, kept in ticks of 10 ms.
    """

    def __init__(self, settings: CacheSettings) -> None:
        self._sets = max(1, settings.max_bytes // (_BYTES_PER_ENTRY * _WAYS))
        self._ttl = settings.ttl_s * _TICKS_PER_SECOND
        self._jitter = settings.ttl_jitter
        shape = (self._sets, _WAYS)
        # full, not zeros: memory is taken now, so that no page faults stretch a request later.
        self._low = np.full(shape, 0, dtype=np.uint64)
        self._high = np.full(shape, 0, dtype=np.uint64)
        self._ctr = np.full(shape, 0, dtype=np.float32)
        self._expires = np.full(shape, 0, dtype=np.uint32)
        self._used = np.full(shape, 0, dtype=np.uint32)
        self._salts: dict[ModelVersion, np.uint64] = {}
        self._drops = 0
        self._start: float | None = None

    def lookup(self, version: ModelVersion, keys: U64, now: float) -> tuple[F32, Bools]:
        """Scores of n rows by their keys, uint64 [n, 2].

        Returns:
            float32 [n], 0 where nothing is known, and bool [n], where something is.
        """
        tick = self._tick(now)
        low, sets = self._place(version, keys)
        match = (
            (self._low[sets] == low[:, None]) & (self._high[sets] == keys[:, 1, None]) & (self._expires[sets] > tick)
        )
        way = match.argmax(axis=1)
        hit = match[np.arange(len(low)), way]
        self._used[sets[hit], way[hit]] = tick
        return np.where(hit, self._ctr[sets, way], np.float32(0)), hit

    def insert(self, version: ModelVersion, keys: U64, ctr: F32, now: float) -> None:
        """Keeps the scores float32 [n] of n rows, keys uint64 [n, 2]."""
        tick = self._tick(now)
        low, sets = self._place(version, keys)
        _, first = np.unique(low, return_index=True)
        order = first[np.argsort(sets[first], kind="stable")]
        low, sets, high, ctr = low[order], sets[order], keys[order, 1], ctr[order]
        same = (self._low[sets] == low[:, None]) & (self._high[sets] == high[:, None])
        # Entries of the same set take different ways: the k-th of them the k-th least useful one.
        nth = np.arange(len(sets)) - np.searchsorted(sets, sets)
        use = np.where(self._expires[sets] > tick, self._used[sets], np.uint32(0))
        victim = np.argsort(use, axis=1, kind="stable")[np.arange(len(sets)), np.minimum(nth, _WAYS - 1)]
        way = np.where(same.any(axis=1), same.argmax(axis=1), victim)
        lifetime = self._ttl * (1 - self._jitter * (low >> np.uint64(40)).astype(np.float64) / 2**24)
        self._low[sets, way], self._high[sets, way] = low, high
        self._ctr[sets, way] = ctr
        self._expires[sets, way] = np.minimum(tick + lifetime, _NEVER).astype(np.uint32)
        self._used[sets, way] = tick

    def drop(self, version: ModelVersion) -> None:
        """Forgets all scores of a version; their room is reused as others come."""
        self._drops += 1
        self._salts[version] = self._salt(version)

    @property
    def capacity(self) -> int:
        """Entries it can hold."""
        return self._sets * _WAYS

    def _salt(self, version: ModelVersion) -> np.uint64:
        return np.uint64(xxhash.xxh3_64_intdigest(f"{version}#{self._drops}".encode()))

    def _place(self, version: ModelVersion, keys: U64) -> tuple[U64, npt.NDArray[np.intp]]:
        salt = self._salts.get(version)
        if salt is None:
            salt = self._salts[version] = self._salt(version)
        low = keys[:, 0] ^ salt
        return low, (low % np.uint64(self._sets)).astype(np.intp)

    def _tick(self, now: float) -> np.uint32:
        """Ticks since the first use, plus one: 0 stands for never."""
        if self._start is None:
            self._start = now
        return np.uint32(max(0.0, now - self._start) * _TICKS_PER_SECOND + 1)
