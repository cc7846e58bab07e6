"""Writes a table: one process of a machine does."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from streamer.ads import Rows
from streamer.errors import ConfigError
from streamer.tables import folder
from streamer.tables.digests import digests_of
from streamer.tables.free_slots import FreeSlots
from streamer.tables.index import TOMBSTONE, Places, entries_of, slots_of
from streamer.tables.index_size import IndexSize
from streamer.tables.layout import FIRST_SLOT, MAX_PARTITIONS, MIN_BUCKETS, Word, index_span
from streamer.tables.mapped_file import MappedFile, TableState, freed_apart
from streamer.tables.reader import QUARANTINE_S
from streamer.types import U64

_STEP = 2**20
_SCANNED_ENTRIES = 65_536
_MAX_CHANGES = 1024
_RESERVED_SHARE = 64


class Writer:
    """The only writer of a table.

    A changed ad gets a new slot; then its entry in the index is switched. The former slot is used again only after
    `QUARANTINE_S`, when no lookup reads it any more.

    Invariants:
    1. A process that is killed at any instruction leaves the former or the new row of each ad, and positions up to
       which all changes are in the table. The next writer goes on from there.
    2. The file never takes more than its size. New ads are rejected before that: a part of the slots is reserved for
       changes of known ads.
    """

    def __init__(
        self,
        table: MappedFile,
        dtype: np.dtype[np.void],
        locks: Sequence[int],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """`locks`: the file descriptors of the folder's locks."""
        self._table = table
        self._row_dtype = dtype
        self._dtype = table.geometry.slot_dtype(dtype)
        self._locks = locks
        self._clock = clock
        self._wall = wall
        self._free = FreeSlots(FIRST_SLOT)
        self._index_size = IndexSize(table, clock, QUARANTINE_S)
        self._is_recovered = self._is_closed = False
        self.max_changes = min(_MAX_CHANGES, table.geometry.slots // 4)
        self.full_reason = ""

    @property
    def state(self) -> TableState:
        """What the table says about itself now."""
        return self._table.state()

    @property
    def age_s(self) -> float:
        """The time between now and the last batch, in seconds; without one since the epoch."""
        return abs(self._wall() - self._table.words[Word.WRITTEN_MS] / 1000)

    def recover(self) -> Iterator[None]:
        """Prepares the table for `apply`, a step at a time, each under 1 ms.

        Raises:
            ConfigError: no space for an empty table.
        """
        table = self._table
        if table.path.name == folder.NEW_TABLE:
            yield from self._complete_new()
        if table.words[Word.EPOCH] & 1:
            # The former writer has died while it switched a batch. Its changes are read again from these positions.
            table.prepare_positions(table.positions()[1])
            table.words[Word.EPOCH] += 1
        allocated = table.words[Word.ALLOCATED]
        is_free = np.ones(allocated, dtype=np.bool_)
        is_free[:FIRST_SLOT] = False
        for start in range(0, len(table.index), _SCANNED_ENTRIES):
            is_free[slots_of(table.index.used(start, start + _SCANNED_ENTRIES))] = False
            yield
        free = np.flatnonzero(is_free)
        self._free = FreeSlots(allocated)
        self._free.give(free, self._usable_at())
        table.words[Word.COUNT] = allocated - FIRST_SLOT - len(free)
        self._is_recovered = True

    def reserve(self, count: int) -> Iterator[None]:
        """Makes the index fit for `count` new ads, a step at a time, each under 1 ms.

        There must be no `apply` in between. Without this call, `apply` does all of it at once.
        """
        yield from self._index_size.reserve(self._table.words[Word.COUNT] + count)

    def begin_load(self, starts: Sequence[int], targets: Sequence[int]) -> None:
        """Begins the first load of a new table, which reads each partition up to its target."""
        nothing = np.empty(0, self._row_dtype)
        self._check([], nothing, [], starts)
        self._table.set_targets(starts, targets)
        self.apply([], nothing, [], starts)

    def apply(
        self, ids: Sequence[str], rows: Rows, deleted: Sequence[str], positions: Sequence[int]
    ) -> list[int] | None:
        """Applies one batch of changes, which lookups see at once.

        Args:
            ids: n ads, each once.
            rows: theirs, structured [n].
            deleted: other ads, known or not.
            positions: the next offset of each partition after these changes.

        Returns:
            The places in `ids` of new ads for which there is no space (`full_reason`), or None if no free slot can be
            used before the end of a quarantine: then nothing is changed, and the caller applies the batch again later.

        Raises:
            ValueError: an id occurs twice, or there are more than `max_changes` or 4,096 partitions.
        """
        self._check(ids, rows, deleted, positions)
        for _ in self.reserve(len(ids)):
            pass
        table, index = self._table, self._table.index
        digests = digests_of([*ids, *deleted])
        places = index.find(digests)
        is_known = places >= 0
        changed, new = np.flatnonzero(is_known[: len(ids)]), np.flatnonzero(~is_known[: len(ids)])
        accepted = self._make_space(len(new))
        rejected: list[int] = new[accepted:].tolist()
        order, new_places, passed = index.places_for(digests[:, new[:accepted]])
        stored = np.concatenate((changed, new[order]))
        slots = self._take(len(stored))
        if slots is None:
            return None
        self._write(slots, digests[:, stored], rows[stored])
        removed = places[len(ids) :][is_known[len(ids) :]]
        former = index.slots_at(np.concatenate((places[changed], removed)))
        erased = index.erased(removed, passed)
        self._switch(
            np.concatenate((places[changed], new_places, removed)),
            np.concatenate((entries_of(digests[:, stored], slots), erased)),
            positions,
        )
        table.words[Word.COUNT] += accepted - len(removed)
        self._free.give(former, self._usable_at())
        index.clear_tombstones(removed[erased == TOMBSTONE])
        return rejected

    def mark_ready(self) -> None:
        """The first load is complete: the table has users."""
        self._table.words[Word.READY] = 1

    def retire(self) -> None:
        """The topic is no longer the right one; readers see it."""
        self._table.words[Word.RETIRED] = 1

    def close(self) -> None:
        """Gives the writer's lock back and unmaps the table."""
        for _ in self.closing():
            pass

    def closing(self) -> Iterator[None]:
        """As `close`, a step at a time, each under 1 ms."""
        if not self._is_closed:
            self._is_closed = True
            for fd in self._locks:
                os.close(fd)
            yield from self._table.closing()

    def _complete_new(self) -> Iterator[None]:
        table = self._table
        try:
            table.words[Word.BUCKETS] = MIN_BUCKETS
            table.allocate(*index_span(MIN_BUCKETS))
            while self._allocated < FIRST_SLOT + self.max_changes:
                self._grow()
                yield
        except OSError as error:
            table.path.unlink(missing_ok=True)
            msg = f"ads.directory: {self._directory}: {error.strerror} for an empty table; give it more space"
            raise ConfigError(msg) from error
        path = table.path.with_name(folder.TABLE)
        with freed_apart(path):
            table.path.rename(path)
        table.path = path

    @property
    def _directory(self) -> Path:
        return self._table.path.parent.parent

    @property
    def _allocated(self) -> int:
        return self._table.words[Word.ALLOCATED]

    def _grow(self) -> None:
        geometry, allocated = self._table.geometry, self._allocated
        new = min(geometry.slots, allocated + max(1, _STEP // geometry.slot_bytes))
        self._table.allocate(geometry.end_of(allocated), geometry.end_of(new))
        self._table.words[Word.ALLOCATED] = new

    def _make_space(self, count: int) -> int:
        """Allocates slots for new ads; how many of them fit beside the reserved ones."""
        ads = self._table.words[Word.COUNT]
        used = FIRST_SLOT + ads + max(self.max_changes, ads // _RESERVED_SHARE)
        self.full_reason = ""
        try:
            while self._allocated < min(used + count, self._table.geometry.slots):
                self._grow()
        except OSError as error:
            self.full_reason = f"{error.strerror} in {self._directory} (ads.directory)"
        fits = max(0, self._allocated - used)
        in_index = self._index_size.most_ads - ads
        if in_index < min(count, fits):
            self.full_reason = f"{self._index_size.failure} in {self._directory} (ads.directory)"
            return max(0, in_index)
        if fits < count and not self.full_reason:
            self.full_reason = "table is full (ads.max_bytes)"
        return min(count, fits)

    def _take(self, count: int) -> Places | None:
        slots = self._free.take(count, self._allocated, self._clock())
        while slots is None and self._allocated < self._table.geometry.slots:
            try:
                self._grow()
            except OSError:
                return None
            slots = self._free.take(count, self._allocated, self._clock())
        return slots

    def _usable_at(self) -> float:
        """When a slot that is left now can be used again: at once while nobody looks up."""
        return self._clock() + QUARANTINE_S if self._table.words[Word.READY] else 0.0

    def _write(self, slots: Places, digests: U64, rows: Rows) -> None:
        written = np.zeros(len(slots), self._dtype)
        written["digest"] = digests.T
        written["row"] = rows
        self._table.slots[slots] = written.view(np.uint64).reshape(len(slots), self._table.slots.shape[1])

    def _switch(self, places: Places, entries: U64, positions: Sequence[int]) -> None:
        table = self._table
        table.words[Word.WRITTEN_MS] = int(self._wall() * 1000)
        with table.batch(positions):
            table.index.store(places, entries)

    def _check(self, ids: Sequence[str], rows: Rows, deleted: Sequence[str], positions: Sequence[int]) -> None:
        changes = len(ids) + len(deleted)
        if not self._is_recovered:
            raise ValueError("the table is not recovered")
        if len({*ids, *deleted}) != changes:
            raise ValueError("an ad occurs twice in one batch")
        if changes > self.max_changes or len(positions) > MAX_PARTITIONS:
            msg = f"{changes} changes, {len(positions)} partitions; at most {self.max_changes} and {MAX_PARTITIONS}"
            raise ValueError(msg)
        if rows.dtype != self._row_dtype or len(rows) != len(ids):
            msg = f"{len(ids)} ads have {len(rows)} rows of {rows.dtype}; the form has {self._row_dtype}"
            raise ValueError(msg)
