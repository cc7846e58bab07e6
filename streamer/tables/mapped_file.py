"""A table's file, mapped into memory."""

import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from typing import Self

import numpy as np

from streamer.tables import layout
from streamer.tables.index import Index
from streamer.tables.layout import Geometry, Identity, Word

_STEP = 2**20
_MADV_POPULATE_READ = 22  # Linux 5.14; the module mmap has no name for it


@dataclass(frozen=True, slots=True)
class TableState:
    """What a table says about itself.

    Attributes:
        is_ready: the first load is complete.
        is_retired: its topic is no longer the right one: open the table of the topic's new id.
        positions: the next offset by partition; empty in a new table.
        loaded_share: of the first load, from 0 to 1; exactly 1 if all of it is read.
        count: ads.
        used_bytes: memory on this machine, with the index.
        written_at: wall clock of the last batch, in seconds.
    """

    is_ready: bool
    is_retired: bool
    positions: tuple[int, ...]
    loaded_share: float
    count: int
    used_bytes: int
    written_at: float


class MappedFile:
    """The parts of a table's file as arrays; all processes that map it see one memory.

    A page must be allocated before it is used: in a full tmpfs a store to a missing page ends the process (SIGBUS).

    Attributes:
        words: the words of the header, see `Word`.
        slots: the slots as words, uint64 [slots, words].
        digests: those in the slots, uint64 [slots, 2].
    """

    def __init__(self, path: Path, fd: int, identity: Identity, geometry: Geometry, *, can_write: bool) -> None:
        """Takes over the file descriptor."""
        self.path = path
        self.identity = identity
        self.geometry = geometry
        self._fd = fd
        protection = mmap.PROT_READ | mmap.PROT_WRITE if can_write else mmap.PROT_READ
        self._memory = mmap.mmap(fd, geometry.file_bytes, prot=protection)
        header = memoryview(self._memory)[layout.WORDS_AT : layout.BANKS_AT]
        self.words = header.cast("Q")
        banks = np.frombuffer(self._memory, np.int64, 4 * layout.MAX_PARTITIONS, layout.BANKS_AT)
        self._banks = banks.reshape(4, layout.MAX_PARTITIONS)
        at, size = geometry.slots_at, geometry.slot_bytes
        self.slots = np.frombuffer(self._memory, np.uint64, geometry.slots * size // 8, at).reshape(-1, size // 8)
        self.digests = np.ndarray((geometry.slots, 2), np.uint64, self._memory, at, (size, 8))
        self._index = self.index_of(layout.MIN_BUCKETS)
        # How far each part is mapped, by its start.
        self._mapped: dict[int, int] = {}
        self._fence = Lock()

    @classmethod
    def create(cls, path: Path, identity: Identity, geometry: Geometry) -> Self:
        """A new file; only its header is allocated.

        Raises:
            OSError: no space.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, geometry.file_bytes)
            os.posix_fallocate(fd, 0, layout.INDEX_AT)
            os.pwrite(fd, layout.pack(identity, geometry), 0)
            return cls(path, fd, identity, geometry, can_write=True)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def open(cls, path: Path, *, can_write: bool = False) -> Self | None:
        """The file at a path, or None if there is none, or it is damaged or of another format.

        Raises:
            OSError: it cannot be opened.
        """
        try:
            fd = os.open(path, (os.O_RDWR if can_write else os.O_RDONLY) | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            found = layout.unpack(os.pread(fd, layout.PAGE, 0))
            if found is not None and os.fstat(fd).st_size == found[1].file_bytes:
                return cls(path, fd, *found, can_write=can_write)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def is_at(self, path: Path) -> bool:
        """Whether the file at a path is still this one."""
        try:
            return os.path.samestat(os.fstat(self._fd), path.stat())
        except FileNotFoundError:
            return False

    def allocate(self, start: int, end: int) -> None:
        """Makes the pages of these bytes real.

        Raises:
            OSError: no space.
        """
        os.posix_fallocate(self._fd, start, end - start)

    def free(self, start: int, end: int) -> None:
        """Gives the memory of these bytes back; they are 0 afterwards."""
        with suppress(OSError):  # a file system that cannot: it stays allocated
            self._memory.madvise(mmap.MADV_REMOVE, start, end - start)

    @property
    def index(self) -> Index:
        """The index in use. A writer may replace it in any batch."""
        buckets = self.words[Word.BUCKETS]
        if len(self._index) != buckets * layout.WAYS:
            self._index = self.index_of(buckets)
        return self._index

    def index_of(self, buckets: int) -> Index:
        """The index of this size, in use or not."""
        start, _ = layout.index_span(buckets)
        entries = np.frombuffer(self._memory, np.uint64, buckets * layout.WAYS, start)
        return Index(entries.reshape(-1, layout.WAYS), self.digests)

    def warm(self) -> bool:
        """Maps the next megabyte in use: lookups have no page faults. False: all is mapped."""
        for start, end in self._parts():
            at = self._mapped.get(start, start)
            if at < end:
                size = min(_STEP, end - at)
                with suppress(OSError):  # an older kernel maps them at the first access
                    self._memory.madvise(_MADV_POPULATE_READ, at, size)
                self._mapped[start] = at + size
                return True
        return False

    def _parts(self) -> Sequence[tuple[int, int]]:
        """The pages in use: header, index, and the slots in whole pages."""
        end = self.geometry.end_of(self.words[Word.ALLOCATED]) // layout.PAGE * layout.PAGE
        span = layout.index_span(self.words[Word.BUCKETS])
        return (0, layout.INDEX_AT), span, (self.geometry.slots_at, end)

    def fence(self) -> None:
        """Orders the loads and stores before it and after it, as processors other than x86 need."""
        with self._fence:
            pass

    def positions(self) -> tuple[int, tuple[int, ...]]:
        """An epoch, and the positions that belong to it."""
        while True:
            epoch = self.words[Word.EPOCH]
            self.fence()
            bank = layout.bank_of(epoch)
            positions = tuple(self._banks[bank, : self.words[Word.PARTITIONS + bank]].tolist())
            self.fence()
            # The bank changes only in the next epoch.
            if self.words[Word.EPOCH] >> 1 == epoch >> 1:
                return epoch, positions

    @contextmanager
    def batch(self, positions: Sequence[int]) -> Iterator[None]:
        """The block stores what a batch changes.

        Lookups see that it and these positions belong together.
        """
        self.prepare_positions(positions)
        epoch = self.words[Word.EPOCH]
        self.fence()
        self.words[Word.EPOCH] = epoch + 1
        self.fence()
        yield
        self.fence()
        self.words[Word.EPOCH] = epoch + 2

    def prepare_positions(self, positions: Sequence[int]) -> None:
        """Stores the positions of the next epoch."""
        bank = layout.bank_of(self.words[Word.EPOCH]) ^ 1
        self._banks[bank, : len(positions)] = positions
        self.words[Word.PARTITIONS + bank] = len(positions)

    def set_targets(self, starts: Sequence[int], targets: Sequence[int]) -> None:
        """Stores between which offsets the first load reads each partition."""
        self._banks[2, : len(starts)] = starts
        self._banks[3, : len(targets)] = targets
        self.words[Word.TARGETS] = len(targets)

    def state(self) -> TableState:
        """What the header says now."""
        words, (_, positions) = self.words, self.positions()
        return TableState(
            is_ready=bool(words[Word.READY]),
            is_retired=bool(words[Word.RETIRED]),
            positions=positions,
            loaded_share=1.0 if words[Word.READY] else self._loaded_share(positions),
            count=words[Word.COUNT],
            used_bytes=sum(end - start for start, end in self._parts()),
            written_at=words[Word.WRITTEN_MS] / 1000,
        )

    def _loaded_share(self, positions: Sequence[int]) -> float:
        count = min(self.words[Word.TARGETS], len(positions))
        starts, targets = self._banks[2:, :count]
        total = int((targets - starts).sum())
        done = int((np.minimum(np.array(positions[:count], dtype=np.int64), targets) - starts).sum())
        return done / total if total > 0 else float(count > 0)

    def closing(self) -> Iterator[None]:
        """As `close`, a step at a time, each under 1 ms."""
        try:
            for start, end in self._parts():
                for at in range(start, end, _STEP):
                    self._memory.madvise(mmap.MADV_DONTNEED, at, min(_STEP, end - at))
                    yield
        finally:
            self.close()

    def close(self) -> None:
        """Unmaps the file; nothing of it may be used after."""
        self.words.release()
        del self.words, self._banks, self.slots, self.digests, self._index
        with suppress(BufferError):  # a caller has an array of it, which unmaps it at its end
            self._memory.close()
        _close_apart(self._fd)


@contextmanager
def freed_apart(path: Path) -> Iterator[None]:
    """The block removes or replaces the file at a path, if any; a thread frees its memory."""
    fd = None
    with suppress(FileNotFoundError):
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield
    finally:
        if fd is not None:
            _close_apart(fd)


def _close_apart(fd: int) -> None:
    # The last close of a removed file frees its memory: 0.1 ms/MB, for which the event loop would wait.
    if os.fstat(fd).st_nlink:
        os.close(fd)
    else:
        Thread(target=os.close, args=(fd,), name="table").start()
