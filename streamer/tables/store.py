"""Opens the tables of ads that the processes of a machine share."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from streamer.ads import RowForm
from streamer.errors import ConfigError
from streamer.tables import folder
from streamer.tables.layout import Geometry, Identity, Word
from streamer.tables.mapped_file import MappedFile, TableState
from streamer.tables.reader import Reader
from streamer.tables.writer import Writer

MAX_AGE_S = 3600
"""A table that nobody has written for so long is read again: the topic may have lost tombstones that it needs."""
KEPT_S = 600
"""A table that no process uses is kept so long for the next start."""


@dataclass(frozen=True, slots=True)
class StoredTable:
    """A table in a directory.

    Attributes:
        row_bytes: the size of a row.
        state: what it says about itself.
    """

    topic: str
    topic_id: str
    fingerprint: str
    row_bytes: int
    state: TableState


class AdStore:
    """The table of one topic and one form, in a directory in shared memory.

    One process writes it; it holds a lock that the kernel gives back when the process ends. Any number of processes
    read it; they map the same pages.

    Invariants:
    1. At most one writer exists at any time.
    2. A table is used only with the topic id and the form that it was made for.
    3. A folder is removed only while no process uses it.
    """

    def __init__(
        self,
        directory: Path,
        form: RowForm,
        topic: str,
        topic_id: str,
        max_bytes: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`max_bytes`: of a new table.

        Raises:
            ConfigError: `max_bytes` is too small.
        """
        self._directory = directory
        self._dtype = form.dtype
        self._identity = Identity(topic, topic_id, form.fingerprint)
        self._geometry = Geometry.fit(form.dtype.itemsize, max_bytes)
        self._folder = directory / self._identity.name
        self._clock = clock
        self._wall = wall

    def open_writer(self) -> Writer | None:
        """Becomes the writer, or None if another process is. `Writer.recover` must run next.

        Raises:
            ConfigError: the directory cannot be used, or has no space.
        """
        users = folder.enter(self._folder, create=True)
        if users is None:
            return None
        lock = folder.lock_writer(self._folder)
        if lock is None:
            os.close(users)
            return None
        try:
            remove_unused(self._directory, self._wall)
            folder.remove(self._folder / folder.NEW_TABLE)  # its writer was killed
            table = self._reusable() or MappedFile.create(
                self._folder / folder.NEW_TABLE, self._identity, self._geometry
            )
        except BaseException as error:
            os.close(lock)
            os.close(users)
            if isinstance(error, OSError):
                msg = f"ads.directory: {self._directory}: {error.strerror}; give it more space"
                raise ConfigError(msg) from error
            raise
        return Writer(table, self._dtype, (lock, users), self._clock, self._wall)

    def open_reader(self) -> Reader | None:
        """A reader, or None if there is no table yet.

        Raises:
            ConfigError: the directory cannot be used.
        """
        users = folder.enter(self._folder, create=False)
        if users is None:
            return None
        table = self._current()
        if table is None or (self._is_old(table) and not folder.has_writer(self._folder)):
            os.close(users)
            return None
        return Reader(table, self._dtype, users, self._clock, self._replacement)

    def discard(self) -> None:
        """Removes the table unless a process uses it."""
        folder.remove_if_unused(self._folder)

    def remove_unused(self) -> None:
        """Removes the tables of its directory that no process uses, not written for `KEPT_S`."""
        remove_unused(self._directory, self._wall)

    def _current(self, *, can_write: bool = False) -> MappedFile | None:
        table = MappedFile.open(self._folder / folder.TABLE, can_write=can_write)
        if table is not None and (table.identity != self._identity or table.geometry.row_bytes != self._dtype.itemsize):
            table.close()
            return None
        return table

    def _reusable(self) -> MappedFile | None:
        table = self._current(can_write=True)
        if table is None:
            return None
        if table.geometry == self._geometry and not self._is_old(table) and not table.words[Word.RETIRED]:
            return table
        table.close()
        return None

    def _is_old(self, table: MappedFile) -> bool:
        return abs(self._wall() - table.words[Word.WRITTEN_MS] / 1000) > MAX_AGE_S

    def _replacement(self, table: MappedFile) -> MappedFile | None:
        """The table that has replaced another; a loading one does not replace a ready one."""
        path = self._folder / folder.TABLE
        if table.is_at(path):
            return None
        new = self._current()
        if new is not None and table.words[Word.READY] and not new.words[Word.READY]:
            new.close()
            return None
        return new


def remove_unused(directory: Path, wall: Callable[[], float] = time.time) -> None:
    """Removes the tables that no process uses and nobody has written for `KEPT_S`."""
    for path in list(folder.folders(directory)):
        folder.remove_if_unused(path, written_before=wall() - KEPT_S)


def stored_tables(directory: Path) -> list[StoredTable]:
    """The tables in a directory, also those of other topics and forms."""
    found: list[StoredTable] = []
    for path in sorted(folder.folders(directory)):
        table = MappedFile.open(path / folder.TABLE)
        if table is not None:
            names = table.identity
            row_bytes = table.geometry.row_bytes
            found.append(StoredTable(names.topic, names.topic_id, names.fingerprint, row_bytes, table.state()))
            table.close()
    return found
