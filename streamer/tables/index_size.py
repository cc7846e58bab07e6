"""Replaces the index of a table by a larger one as ads come."""

from collections.abc import Callable, Iterator
from itertools import pairwise

from streamer.tables import layout
from streamer.tables.layout import Word
from streamer.tables.mapped_file import MappedFile

_STEP = 2**19
_COPIED_ENTRIES = 2048
_RETRY_S = 10.0


class IndexSize:
    """The size of the index that the writer of a table uses.

    The entries are copied into the larger index; then one word in the header switches to it, as a batch of its own.

    Invariants:
    1. The index in use has all ads: a process that is killed at any instruction leaves one of the two.
    2. The memory of the former one is given back only when no lookup reads it any more.
    """

    def __init__(self, table: MappedFile, clock: Callable[[], float], quarantine_s: float) -> None:
        """`quarantine_s`: how long a lookup may read the former index."""
        self._table = table
        self._clock = clock
        self._quarantine_s = quarantine_s
        self._retry_at = 0.0
        # The former writer may have left memory of indexes that are not in use.
        self._free_at: float | None = clock() + quarantine_s
        self.failure = ""

    @property
    def most_ads(self) -> int:
        """The most ads in the index in use."""
        return layout.most_ads(self._table.words[Word.BUCKETS])

    def reserve(self, ads: int) -> Iterator[None]:
        """Makes the index fit for so many ads, a step at a time, each under 1 ms.

        Without space in the directory it stays as it is. The entries must not change meanwhile.
        """
        if self._free_at is not None and self._clock() >= self._free_at:
            yield from self._free()
        buckets = self._table.geometry.buckets_for(ads)
        if buckets > self._table.words[Word.BUCKETS] and self._clock() >= self._retry_at:
            try:
                yield from self._allocate(buckets)
            except OSError as error:
                self.failure = str(error.strerror)
                self._retry_at = self._free_at = self._clock() + _RETRY_S
            else:
                yield from self._use(buckets)
                self._free_at = self._clock() + self._quarantine_s

    def _allocate(self, buckets: int) -> Iterator[None]:
        for start, end in _steps(*layout.index_span(buckets)):
            self._table.allocate(start, end)
            yield

    def _use(self, buckets: int) -> Iterator[None]:
        table = self._table
        former, new = table.index, table.index_of(buckets)
        for start in range(0, len(new), _STEP // 8):  # a writer that ended here may have left entries
            new.clear(start, start + _STEP // 8)
            yield
        for start in range(0, len(former), _COPIED_ENTRIES):
            new.add(former.used(start, start + _COPIED_ENTRIES))
            yield
        with table.batch(table.positions()[1]):
            table.words[Word.BUCKETS] = buckets

    def _free(self) -> Iterator[None]:
        """Gives back the memory of the indexes that are not in use."""
        self._free_at = None
        start, end = layout.index_span(self._table.words[Word.BUCKETS])
        for unused in ((layout.INDEX_AT, start), (end, self._table.geometry.slots_at)):
            for step in _steps(*unused):
                self._table.free(*step)
                yield


def _steps(start: int, end: int) -> Iterator[tuple[int, int]]:
    return pairwise([*range(start, end, _STEP), end]) if start < end else iter(())
