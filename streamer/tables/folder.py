"""The folders of tables: who uses one, who writes, and which can be removed."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from streamer.errors import ConfigError
from streamer.tables.mapped_file import MappedFile, freed_apart

TABLE = "table"
NEW_TABLE = "table.new"
_USERS = "users"
_WRITER = "writer"
_FILES = (TABLE, NEW_TABLE, _WRITER, _USERS)
_ATTEMPTS = 10


def enter(folder: Path, *, create: bool) -> int | None:
    """A lock, as a file descriptor, that keeps a folder from removal.

    None: there is no folder, or another process is removing it.

    Raises:
        ConfigError: it cannot be made or used, or another user could change it.
    """
    for _ in range(_ATTEMPTS):
        try:
            if create:
                folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.mkdir(mode=0o700, exist_ok=True)
            _check(folder)
            fd = _locked(folder / _USERS, fcntl.LOCK_SH)
        except FileNotFoundError:
            if create:  # removed just now
                continue
            return None
        except OSError as error:
            msg = (
                f"ads.directory: {folder.parent}: {error.strerror}; set a directory in memory that this user can write"
            )
            raise ConfigError(msg) from error
        if fd is None or _is_at(fd, folder / _USERS):
            return fd
        os.close(fd)
    return None


def _check(folder: Path) -> None:
    for path, owners in ((folder.parent, (0, os.geteuid())), (folder, (os.geteuid(),))):
        owner = path.lstat().st_uid
        if owner not in owners:
            msg = f"ads.directory: {path} belongs to user id {owner}; set a directory of this user"
            raise ConfigError(msg)
    mode = folder.lstat().st_mode
    if not stat.S_ISDIR(mode) or stat.S_IMODE(mode) & 0o077:
        msg = f"ads.directory: {folder} is no folder of this user only; remove it"
        raise ConfigError(msg)


def lock_writer(folder: Path) -> int | None:
    """The lock of an entered folder's only writer, as a file descriptor. None: another has it."""
    return _locked(folder / _WRITER, fcntl.LOCK_EX)


def has_writer(folder: Path) -> bool:
    """Whether an entered folder has a writer now."""
    fd = _locked(folder / _WRITER, fcntl.LOCK_SH)
    if fd is not None:
        os.close(fd)
    return fd is None


def remove_if_unused(folder: Path, written_before: float | None = None) -> bool:
    """Removes a folder that no process has entered, if it was last written before a time."""
    try:
        fd = _locked(folder / _USERS, fcntl.LOCK_EX)
    except OSError:  # of another user, or gone
        return False
    if fd is None:
        return False
    try:
        if written_before is not None and written_at(folder) > written_before:
            return False
        if not _is_at(fd, folder / _USERS):
            return False
        with ExitStack() as removed:  # memory is freed after the rmdir, which would wait for it
            for name in _FILES:
                removed.enter_context(freed_apart(folder / name))
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
    except OSError:  # files that are not ours, or another process has made it again
        return False
    finally:
        os.close(fd)
    return True


def remove(path: Path) -> None:
    """Removes a file of a folder, if there is one; a thread frees its memory."""
    with freed_apart(path):
        path.unlink(missing_ok=True)


def written_at(folder: Path) -> float:
    """When a folder's table was last written, or a folder without one was made: wall clock."""
    table = MappedFile.open(folder / TABLE)
    if table is None:
        return folder.stat().st_mtime
    found = table.state().written_at
    table.close()
    return found


def folders(directory: Path) -> Iterator[Path]:
    """The folders of tables in a directory."""
    if directory.is_dir():
        yield from (path.parent for path in directory.glob(f"*/{_USERS}"))


def _locked(path: Path, operation: int) -> int | None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
