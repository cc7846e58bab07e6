"""Scores already known, by model version and encoded row. Looked up for a whole request at once."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from streamer.settings.sections import CacheSettings
from streamer.types import F32, U64, ModelVersion

_WAYS = 16
_TICKS_PER_SECOND = 100
_NEVER = 2**32 - 1
_BYTES_PER_ENTRY = 8 + 8 + 4 + 4 + 4 + 4
_NOBODY = np.uint32(0)
_HALF = np.uint64(32)
_JITTER_BITS = np.uint64(2**24 - 1)

Bools = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.intp]
Owners = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Found:
    """What the cache knows of n rows.

    Attributes:
        ctr: float32 [n], 0 where nothing is known; known: bool [n], where something is.
        owner: uint32 [n], who has reserved a row that is not known yet; 0 where nobody has.
    """

    ctr: F32
    known: Bools
    owner: Owners


@dataclass(frozen=True, slots=True)
class Reservation:
    """Places kept for k of n rows until their scores come; each of equal rows shares one place.

    Attributes:
        rows: [k], which of the n rows a place is for; low, high: uint64 [k], their keys.
        sets, ways: [k], the places.
    """

    owner: np.uint32
    rows: Positions
    low: U64
    high: U64
    sets: Positions
    ways: Positions


class ScoreCache:
    """A set-associative table of click probabilities: 16 entries a set, the least recently used one of them goes first.

    A row whose score is on its way is reserved in the same table: whoever looks it up meanwhile learns who has asked
    for it. Promises: never more than `max_bytes`; never an entry older than `ttl_s`. Invariants: (1) what is found was
    filled in under the same 128-bit key for the same model version (two different rows share a key with odds of about
    n² / 2^129 among n rows); (2) all operations are numpy operations over all candidates of a request; (3) time is an
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
        self._owner = np.full(shape, _NOBODY, dtype=np.uint32)
        self._salts: dict[ModelVersion, np.uint64] = {}
        self._drops = 0
        self._start: float | None = None

    def lookup(self, version: ModelVersion, keys: U64, now: float) -> Found:
        """What is known of n rows by their keys, uint64 [n, 2]."""
        tick = self._tick(now)
        low, sets = self._place(version, keys)
        ways, same = self._find(sets, low, keys[:, 1])
        found = same & (self._expires[sets, ways] > tick)
        self._used[sets[found], ways[found]] = tick
        owner = np.where(found, self._owner[sets, ways], _NOBODY)
        known = found & (owner == _NOBODY)
        return Found(np.where(known, self._ctr[sets, ways], np.float32(0)), known, owner)

    def reserve(
        self, version: ModelVersion, keys: U64, rows: Positions, owner: int, *, now: float, until: float
    ) -> Reservation:
        """Keeps places for those `rows` of a request whose scores `owner`, above 0, has asked for.

        The places are given up at `until` if nothing has been filled in by then.
        """
        tick = self._tick(now)
        low, sets = self._place(version, keys[rows])
        # Rising halves of keys are rising sets, too.
        low, first = np.unique(low, return_index=True)
        sets, rows = sets[first], rows[first]
        high = keys[rows, 1]
        ways, same = self._find(sets, low, high)
        use = np.where(self._expires[sets] > tick, self._used[sets], np.uint32(0))
        victims = use.argmin(axis=1)
        # Entries of the same set take different ways: the k-th of them the k-th least useful one.
        nth = np.arange(len(sets)) - np.searchsorted(sets, sets)
        later = np.flatnonzero(nth)
        nth = np.minimum(nth[later], _WAYS - 1)
        victims[later] = np.argsort(use[later], axis=1, kind="stable")[np.arange(len(later)), nth]
        ways = np.where(same, ways, victims)
        self._low[sets, ways], self._high[sets, ways] = low, high
        self._expires[sets, ways] = max(self._tick(until), tick + np.uint32(1))
        self._used[sets, ways] = tick
        self._owner[sets, ways] = owner
        return Reservation(np.uint32(owner), rows, low, high, sets, ways)

    def fill(self, reservation: Reservation, ctr: F32, done: Bools, now: float) -> None:
        """Fills in the scores of a request, float32 [n], where they are `done`, bool [n]; gives up the other places.

        A place that was taken by other rows meanwhile is left to them.
        """
        sets, ways, low = reservation.sets, reservation.ways, reservation.low
        ours = (
            (self._owner[sets, ways] == reservation.owner)
            & (self._low[sets, ways] == low)
            & (self._high[sets, ways] == reservation.high)
        )
        sets, ways, low, rows = sets[ours], ways[ours], low[ours], reservation.rows[ours]
        tick = self._tick(now)
        lifetime = self._ttl * (1 - self._jitter * (low & _JITTER_BITS).astype(np.float64) / 2**24)
        expires = np.minimum(tick + lifetime, _NEVER).astype(np.uint32)
        self._ctr[sets, ways] = ctr[rows]
        self._expires[sets, ways] = np.where(done[rows], expires, np.uint32(0))
        self._owner[sets, ways] = _NOBODY

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

    def _place(self, version: ModelVersion, keys: U64) -> tuple[U64, Positions]:
        salt = self._salts.get(version)
        if salt is None:
            salt = self._salts[version] = self._salt(version)
        low = keys[:, 0] ^ salt
        return low, ((low >> _HALF) * np.uint64(self._sets) >> _HALF).astype(np.intp)

    def _find(self, sets: Positions, low: U64, high: U64) -> tuple[Positions, Bools]:
        """The ways in which n rows stand in their sets, if they do, and whether."""
        ways = (self._low[sets] == low[:, None]).argmax(axis=1)
        return ways, (self._low[sets, ways] == low) & (self._high[sets, ways] == high)

    def _tick(self, now: float) -> np.uint32:
        """Ticks since the first use, plus one: 0 stands for never."""
        if self._start is None:
            self._start = now
        return np.uint32(min(_NEVER, max(0.0, now - self._start) * _TICKS_PER_SECOND + 1))
