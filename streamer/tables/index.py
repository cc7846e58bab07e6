"""The index of a table: from the digest of an ad id to its slot. Pure."""

from typing import Final

import numpy as np
import numpy.typing as npt

from streamer import native
from streamer.tables.layout import WAYS
from streamer.types import U64

EMPTY: Final = 0
TOMBSTONE: Final = 1

Places = npt.NDArray[np.int64]

_LOW: Final = np.uint64(2**32 - 1)
_HIGH: Final = np.uint64(2**64 - 2**32)
_SLOT: Final = 2**32 - 1


def slots_of(entries: U64) -> Places:
    """The slots that entries name."""
    found: Places = (entries & _LOW).view(np.int64)
    return found


def entries_of(digests: U64, slots: Places) -> U64:
    """Entries for the slots of n ads, from their digests, uint64 [2, n]."""
    entries: U64 = (digests[0] & _HIGH) | slots.view(np.uint64)
    return entries


class Index:
    """Buckets of eight entries, in arrays that others map.

    An ad that finds its bucket full goes to the next one that has space.
    An entry is one uint64: the upper half of the digest's first word, and the slot. One store replaces it, so a process
    that is killed leaves the old or the new one.

    Invariants:
    1. An ad is in its own bucket (the low bits of the digest's second word), or in a later one that follows only
       buckets without an empty entry. So a search ends at the first bucket that has one.
    2. A slot belongs to an ad only if the digest in the slot is that of the ad.
    """

    def __init__(self, entries: U64, digests: U64) -> None:
        """`entries`: uint64 [buckets, 8]. `digests`: those in the slots, uint64 [slots, 2]."""
        self._entries = entries
        self._flat = entries.reshape(-1)
        self._digests = digests
        self._mask = len(entries) - 1
        self._home_mask = np.uint64(self._mask)

    def candidates(self, digests: U64) -> Places:
        """The slots in which n ads are if their own buckets contain them, int64 [n].

        Slot 0 if no entry fits. The caller must compare the digests in the slots, and ask `doubtful` about those that
        differ.
        """
        if native.module is not None:
            found = np.empty(digests.shape[1], dtype=np.int64)
            native.module.ad_slots(digests, self._entries.take(self._homes(digests), axis=0), found)
            return found
        # Equal upper halves leave the slot alone, which is then the smallest.
        slots: U64 = self._differences(digests).min(axis=0)
        if slots.max(initial=0) > _LOW:
            slots *= slots <= _LOW
        return slots.view(np.int64)

    def doubtful(self, digests: U64) -> Places:
        """Which of n ads, not found by `candidates`, can be in the table nevertheless: [k]."""
        differences = self._differences(digests)
        may_be_later = (differences != (digests[0] & _HIGH)).all(axis=0)  # no entry is 0
        has_equal_half = differences.min(axis=0) <= _LOW
        return np.flatnonzero(may_be_later | has_equal_half)

    def search(self, first: int, second: int) -> int:
        """The place of an ad's entry in the flat index, by its digest; -1: not in the table."""
        half = first >> 32
        bucket = second & self._mask
        for _ in range(len(self._entries)):
            entries = self._entries[bucket].tolist()
            for way, entry in enumerate(entries):
                if entry >> 32 == half and entry > TOMBSTONE:
                    digest = self._digests[entry & _SLOT]
                    if digest[0] == first and digest[1] == second:
                        return bucket * WAYS + way
            if EMPTY in entries:
                break
            bucket = (bucket + 1) & self._mask
        return -1

    def find(self, digests: U64) -> Places:
        """The places of n ads' entries in the flat index, int64 [n]; -1: not in the table."""
        ways = (self._differences(digests) <= _LOW).argmax(axis=0)
        places: Places = self._homes(digests) * WAYS + ways
        found = self._digests[self.slots_at(places)]
        missing = np.flatnonzero((found[:, 0] != digests[0]) | (found[:, 1] != digests[1]))
        if len(missing):
            places[missing] = -1
            for at in missing[self.doubtful(digests[:, missing])].tolist():
                places[at] = self.search(*digests[:, at].tolist())
        return places

    def places_for(self, digests: U64) -> tuple[Places, Places, set[int]]:
        """Free places in the flat index for n new ads, and the buckets that are full with them.

        Nothing is changed: the caller stores the entries, in this order. Then an ad that passes a bucket is stored
        after those that fill it, so that each is found as soon as it is stored.

        Returns:
            The ads in the order in which their entries must be stored, int64 [n]; a place for each of these, int64
            [n]; the full buckets that ads have passed.
        """
        passed: set[int] = set()
        homes = self._homes(digests)
        if not len(homes):  # most batches
            return homes, homes, passed
        order: Places = homes.argsort(kind="stable")
        homes = homes[order]
        # The k-th ad of a bucket gets the k-th free entry.
        nth = np.arange(len(homes)) - np.searchsorted(homes, homes)
        free = self._entries.take(homes, axis=0) <= TOMBSTONE
        ways = (~free).argsort(axis=1, kind="stable")
        fits = nth < free.sum(axis=1)
        places: Places = homes * WAYS + ways[np.arange(len(homes)), np.minimum(nth, WAYS - 1)]
        if not fits.all():
            taken = set(places[fits].tolist())
            later = [self._next_free(home, taken, passed) for home in homes[~fits].tolist()]
            order = np.concatenate((order[fits], order[~fits]))
            places = np.concatenate((places[fits], np.array(later, dtype=np.int64)))
        return order, places, passed

    def _next_free(self, bucket: int, taken: set[int], passed: set[int]) -> int:
        for _ in range(len(self._entries)):
            for way, entry in enumerate(self._entries[bucket].tolist()):
                place = bucket * WAYS + way
                if entry <= TOMBSTONE and place not in taken:
                    taken.add(place)
                    return place
            passed.add(bucket)
            bucket = (bucket + 1) & self._mask
        raise AssertionError("the index has more entries than the table has slots")

    def erased(self, places: Places, passed: set[int]) -> U64:
        """What replaces the entries of n deleted ads; a tombstone where ads may have passed."""
        buckets = places >> 3
        can_be_empty = (self._entries.take(buckets, axis=0) == EMPTY).any(axis=1)
        if passed:
            can_be_empty &= ~np.isin(buckets, list(passed))
        return np.where(can_be_empty, np.uint64(EMPTY), np.uint64(TOMBSTONE))

    def clear_tombstones(self, places: Places) -> None:
        """Empties the tombstones in the buckets of these places that no ad has passed.

        With tombstones in most buckets, a search for an absent ad would not end in its own bucket.
        """
        for bucket in set((places >> 3).tolist()):
            self._clear_tombstones(bucket)

    def _clear_tombstones(self, bucket: int) -> None:
        following = bucket
        for _ in range(len(self._entries) - 1):
            following = (following + 1) & self._mask
            entries = self._entries[following].tolist()
            for entry in entries:
                if entry > TOMBSTONE:
                    home = int(self._digests[entry & _SLOT, 1]) & self._mask
                    if (bucket - home) & self._mask < (following - home) & self._mask:
                        return
            if EMPTY in entries:
                break
        own = self._entries[bucket]
        own[own == TOMBSTONE] = EMPTY

    def add(self, entries: U64) -> None:
        """Stores the entries of ads in an index over the same slots."""
        order, places, _ = self.places_for(np.ascontiguousarray(self._digests[slots_of(entries)].T))
        self.store(places, entries[order])

    def clear(self, start: int, stop: int) -> None:
        """Empties the entries from `start` to `stop` of the flat index."""
        self._flat[start:stop] = EMPTY

    def store(self, places: Places, entries: U64) -> None:
        """Stores entries at their places in the flat index."""
        self._flat[places] = entries

    def slots_at(self, places: Places) -> Places:
        """The slots of the entries at places of the flat index."""
        return slots_of(self._flat[places])

    def used(self, start: int, stop: int) -> U64:
        """The entries of ads among those from `start` to `stop` of the flat index."""
        entries: U64 = self._flat[start:stop]
        return entries[entries > TOMBSTONE]

    def __len__(self) -> int:
        """The number of entries, with empty ones."""
        return len(self._flat)

    def _homes(self, digests: U64) -> Places:
        homes: Places = (digests[1] & self._home_mask).view(np.int64)
        return homes

    def _differences(self, digests: U64) -> U64:
        """The entries of n ads' own buckets, xor the upper halves of their digests, [8, n]."""
        entries = self._entries.take(self._homes(digests), axis=0)
        # numpy reduces the first axis several times faster than the last one.
        differences: U64 = np.bitwise_xor(entries.T, digests[0] & _HIGH, order="C")
        return differences
