"""A cache of scores, by model version and encoded row. Pure."""

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
_NO_LEADER = np.uint32(0)
_HALF = np.uint64(32)
_JITTER_BITS = np.uint64(2**24 - 1)

Bools = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.intp]
Leaders = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Lookup:
    """The cache's content for n rows.

    Attributes:
        ctr: float32 [n], 0 for rows without a score.
        known: bool [n], whether the row has a score.
        leader: uint32 [n], the request that has reserved the row and waits for its score; 0: none.
    """

    ctr: F32
    known: Bools
    leader: Leaders


@dataclass(frozen=True, slots=True)
class Reservation:
    """Entries that a leader has reserved for its rows; equal rows share one entry.

    Attributes:
        rows: [k], the row that each entry is for.
        low, high: uint64 [k], the keys.
        at: the positions of the entries in the table: their sets, [k], and ways, [k].
    """

    leader: np.uint32
    rows: Positions
    low: U64
    high: U64
    at: tuple[Positions, Positions]


class ScoreCache:
    """A set-associative table of scores; one lookup covers all candidates of a request.

    A set has 16 entries and evicts the least recently used one. For single flight a leader reserves the entries of the
    rows that it requests from the model; the lookup of a reserved row returns its leader.

    Invariants:
    1. A score is found only under the 128-bit key and the model version that it was stored for. Two different rows
       share a key with a probability of about n² / 2^129 among n rows.
    2. The table never takes more than `max_bytes`.
    3. No score is older than `ttl_s`. Times are monotonic seconds, stored in ticks of 10 ms.
    """

    def __init__(self, settings: CacheSettings) -> None:
        self._sets = max(1, settings.max_bytes // (_BYTES_PER_ENTRY * _WAYS))
        self._ttl = settings.ttl_s * _TICKS_PER_SECOND
        self._jitter = settings.ttl_jitter
        shape = (self._sets, _WAYS)
        # `full` touches the memory now; with `zeros`, page faults would delay the first requests.
        self._low = np.full(shape, 0, dtype=np.uint64)
        self._high = np.full(shape, 0, dtype=np.uint64)
        self._ctr = np.full(shape, 0, dtype=np.float32)
        self._expires = np.full(shape, 0, dtype=np.uint32)
        self._used = np.full(shape, 0, dtype=np.uint32)
        self._leader = np.full(shape, _NO_LEADER, dtype=np.uint32)
        self._salts: dict[ModelVersion, np.uint64] = {}
        self._drops = 0
        self._start: float | None = None

    def lookup(self, version: ModelVersion, keys: U64, now: float) -> Lookup:
        """Looks up n rows by their keys, uint64 [n, 2]."""
        tick = self._tick(now)
        low, sets = self._place(version, keys)
        ways, same = self._find(sets, low, keys[:, 1])
        found = same & (self._expires[sets, ways] > tick)
        self._used[sets[found], ways[found]] = tick
        leader = np.where(found, self._leader[sets, ways], _NO_LEADER)
        known = found & (leader == _NO_LEADER)
        return Lookup(np.where(known, self._ctr[sets, ways], np.float32(0)), known, leader)

    def reserve(
        self, version: ModelVersion, keys: U64, rows: Positions, leader: int, *, now: float, until: float
    ) -> Reservation:
        """Reserves the entries of `rows` for a `leader`, above 0; they expire at `until`."""
        tick = self._tick(now)
        low, sets = self._place(version, keys[rows])
        # A set number is a part of `low`, so rising values of `low` have rising sets.
        low, first = np.unique(low, return_index=True)
        sets, rows = sets[first], rows[first]
        high = keys[rows, 1]
        ways, same = self._find(sets, low, high)
        use = np.where(self._expires[sets] > tick, self._used[sets], np.uint32(0))
        victims = use.argmin(axis=1)
        # New rows of one set evict different entries: the k-th row the k-th least recently used one.
        nth = np.arange(len(sets)) - np.searchsorted(sets, sets)
        later = np.flatnonzero(nth)
        nth = np.minimum(nth[later], _WAYS - 1)
        victims[later] = np.argsort(use[later], axis=1, kind="stable")[np.arange(len(later)), nth]
        at = sets, np.where(same, ways, victims)
        self._low[at], self._high[at] = low, high
        self._expires[at] = max(self._tick(until), tick + np.uint32(1))
        self._used[at] = tick
        self._leader[at] = leader
        return Reservation(np.uint32(leader), rows, low, high, at)

    def fill(self, reservation: Reservation, ctr: F32, done: Bools, now: float) -> None:
        """Stores a leader's scores, float32 [n], where `done`, bool [n]; frees its other entries.

        An entry that another row has replaced in the meantime is not changed.
        """
        at, low = reservation.at, reservation.low
        ours = (self._leader[at] == reservation.leader) & (self._low[at] == low) & (self._high[at] == reservation.high)
        sets, ways = at
        at, low, rows = (sets[ours], ways[ours]), low[ours], reservation.rows[ours]
        tick = self._tick(now)
        lifetime = self._ttl * (1 - self._jitter * (low & _JITTER_BITS).astype(np.float64) / 2**24)
        expires = np.minimum(tick + lifetime, _NEVER).astype(np.uint32)
        self._ctr[at] = ctr[rows]
        self._expires[at] = np.where(done[rows], expires, np.uint32(0))
        self._leader[at] = _NO_LEADER

    def drop(self, version: ModelVersion) -> None:
        """Forgets all scores of a version; new rows replace its entries over time."""
        self._drops += 1
        self._salts.pop(version, None)

    @property
    def capacity(self) -> int:
        """The number of entries in the table."""
        return self._sets * _WAYS

    def _place(self, version: ModelVersion, keys: U64) -> tuple[U64, Positions]:
        salt = self._salts.get(version)
        if salt is None:
            text = f"{version}#{version.generation}#{self._drops}"
            salt = self._salts[version] = np.uint64(xxhash.xxh3_64_intdigest(text.encode()))
        low = keys[:, 0] ^ salt
        return low, ((low >> _HALF) * np.uint64(self._sets) >> _HALF).astype(np.intp)

    def _find(self, sets: Positions, low: U64, high: U64) -> tuple[Positions, Bools]:
        """The ways of n rows in their sets, and whether each row is there."""
        ways = (self._low[sets] == low[:, None]).argmax(axis=1)
        return ways, (self._low[sets, ways] == low) & (self._high[sets, ways] == high)

    def _tick(self, now: float) -> np.uint32:
        """Ticks since the first use, plus 1: tick 0 means never."""
        if self._start is None:
            self._start = now
        return np.uint32(min(_NEVER, max(0.0, now - self._start) * _TICKS_PER_SECOND + 1))
