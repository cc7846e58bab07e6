"""Looks up ads in a table that another process may be writing."""

import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from streamer.ads import FoundAds, TablePosition
from streamer.tables.digests import digests_of, known_ads
from streamer.tables.layout import Word
from streamer.tables.mapped_file import MappedFile, TableState
from streamer.types import U64

QUARANTINE_S = 0.5
"""How long a slot that its ad has left is not used again."""
_ATTEMPTS = 3


class Reader:
    """An `AdTable` of the pages that a writer, of this or another process, changes.

    A lookup reads the epoch, then entries and rows, then the epoch again. If it is the same and even, no batch was
    switched meanwhile, so all rows belong to its positions. Otherwise it reads again, a few times. If the writer has
    died in the middle of a batch, or works without a pause, some rows may then be newer than the positions.

    Invariants:
    1. A row is returned only for the ad whose digest is in the row's slot, and never while it is written: a slot that
       an ad leaves is not used again for `QUARANTINE_S`, and a lookup that took longer reads again.
    2. An ad that is in the table before a lookup and after it is found.
    """

    def __init__(
        self,
        table: MappedFile,
        dtype: np.dtype[np.void],
        users: int,
        clock: Callable[[], float],
        replacement: Callable[[MappedFile], MappedFile | None],
    ) -> None:
        """`users`: the lock of the folder. `replacement`: the table to use instead of another."""
        self._table = table
        self._row_dtype = dtype
        self._dtype = table.geometry.row_dtype(dtype)
        self._users = users
        self._clock = clock
        self._replacement = replacement
        self._position = TablePosition(table.identity.topic, ())
        self._position_epoch = -1
        # Replaced ones, which `step` unmaps.
        self._closing: list[Iterator[None]] = []
        self._is_closed = False

    @property
    def state(self) -> TableState:
        """What the table says about itself now."""
        return self._table.state()

    def warm(self) -> Iterator[None]:
        """Maps all pages of the table and unmaps replaced ones, a step at a time, each under 1 ms."""
        while self.step():
            yield

    def step(self) -> bool:
        """Maps 1 MB of new pages, or unmaps 1 MB of a replaced table. False: nothing is left."""
        if self._table.warm():
            return True
        while self._closing:
            if next(self._closing[0], "closed") is None:
                return True
            del self._closing[0]
        return False

    def refresh(self) -> bool:
        """Opens the table that has replaced this one; `step` maps its pages. True: it was replaced."""
        new = self._replacement(self._table)
        if new is not None:
            self._closing.append(self._table.closing())
            self._table = new
            self._dtype = new.geometry.row_dtype(self._row_dtype)
            self._position_epoch = -1
        return new is not None

    def lookup(self, ad_ids: Sequence[str]) -> FoundAds:
        """The rows of these ads; copies. While the table is loading it may miss some."""
        words = self._table.words
        if not ad_ids:
            return FoundAds(np.empty(0, self._dtype), np.empty(0, np.bool_), self._position_at_least(words[Word.EPOCH]))
        digests = digests_of(ad_ids)
        attempts = 0
        while True:
            started, was_ready, epoch = self._clock(), words[Word.READY], words[Word.EPOCH]
            self._table.fence()
            position = self._position_at_least(epoch)
            rows, known = self._read(digests)
            self._table.fence()
            if words[Word.EPOCH] == epoch and not epoch & 1:
                break
            attempts += 1
            if attempts >= _ATTEMPTS:
                if not was_ready:  # slots are used again at once
                    known[:] = False
                    break
                if self._clock() - started < QUARANTINE_S:
                    break
        return FoundAds(rows, known, position)

    def close(self) -> None:
        """Unmaps the table."""
        for _ in self.closing():
            pass

    def closing(self) -> Iterator[None]:
        """As `close`, a step at a time, each under 1 ms."""
        if not self._is_closed:
            self._is_closed = True
            try:
                for steps in (*self._closing, self._table.closing()):
                    yield from steps
            finally:
                os.close(self._users)

    def _read(self, digests: U64) -> tuple[npt.NDArray[np.void], npt.NDArray[np.bool_]]:
        index, slots = self._table.index, self._table.slots
        found = np.empty((digests.shape[1], slots.shape[1]), np.uint64)
        # Another mode than clip would copy the rows once more.
        slots.take(index.candidates(digests), axis=0, out=found, mode="clip")
        known, are_all = known_ads(found, digests)
        if not are_all:
            missing = np.flatnonzero(~known)
            for at in missing[index.doubtful(digests[:, missing])].tolist():
                place = index.search(*digests[:, at].tolist())
                if place >= 0:
                    found[at] = slots[index.slots_at(np.array([place]))[0]]
                    known[at] = known_ads(found[at : at + 1], digests[:, at : at + 1].copy())[1]
        return np.ndarray(len(found), self._dtype, found.data), known

    def _position_at_least(self, epoch: int) -> TablePosition:
        """The positions of this epoch, or of a later one that has begun meanwhile."""
        if self._position_epoch >> 1 < epoch >> 1 or self._position_epoch < 0:
            found, offsets = self._table.positions()
            self._position_epoch = found
            self._position = TablePosition(self._table.identity.topic, offsets)
        return self._position
