"""Folders of versions that TensorFlow Serving polls: a version appears whole, or not at all."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from model_training.errors import ExportError, in_a_line

_TEMPORARY = (".partial", ".removed")
_ABANDONED_SECONDS = 86_400.0


def versions_in(base_path: Path) -> list[int]:
    """The versions in a folder, oldest first; empty if there is no such folder."""
    if not base_path.is_dir():
        return []
    return sorted(int(path.name) for path in base_path.iterdir() if path.name.isdecimal() and path.is_dir())


def check_free(base_path: Path, version: int) -> None:
    """Rejects a version that `new_version` could not write; called before hours of training.

    Raises:
        ExportError: the version exists, or is not positive.
    """
    if version < 1:
        raise ExportError(f"version {version}: must be a positive integer")
    if (base_path / str(version)).exists():
        raise ExportError(f"{base_path / str(version)}: this version exists already; versions are never overwritten")


@contextmanager
def new_version(base_path: Path, version: int) -> Iterator[Path]:
    """Yields a temporary path to write a version to; its name is not a number.

    Servers therefore ignore it. At the end the files are synced to disk and the folder is renamed to
    `base_path/version`. After an error nothing remains.

    Raises:
        ExportError: the version exists, is not positive, or cannot be written.
    """
    final = base_path / str(version)
    check_free(base_path, version)
    partial = _temporary(base_path, version, "partial")
    try:
        base_path.mkdir(parents=True, exist_ok=True)
        yield partial
        _sync_tree(partial)
        partial.rename(final)
        _sync(base_path)
    except OSError as error:
        raise ExportError(f"{final}: cannot be written: {in_a_line(error)}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_old(base_path: Path, keep: int) -> list[int]:
    """Removes all but the `keep` newest versions, and returns the removed ones.

    A version is renamed first, so no server starts to load a version that is half removed. Temporary folders of
    publishers that were killed are also removed when they are a day old.

    Raises:
        ExportError: a version cannot be removed.
    """
    old = versions_in(base_path)[:-keep]
    for version in old:
        removed = _temporary(base_path, version, "removed")
        try:
            (base_path / str(version)).rename(removed)
            shutil.rmtree(removed)
        except FileNotFoundError:
            continue  # another publisher has removed it
        except OSError as error:
            raise ExportError(f"{base_path / str(version)}: cannot be removed: {error}") from error
    for left in base_path.glob(".*.*.*"):
        with suppress(FileNotFoundError):  # another publisher has removed it
            if left.suffix in _TEMPORARY and time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    return old


def folder_bytes(path: Path) -> int:
    """Total bytes of all files in a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _temporary(base_path: Path, version: int, suffix: str) -> Path:
    """A unique name that is not a number.

    A process id is not enough, because two machines may use the same one.
    """
    return base_path / f".{version}.{uuid4().hex}.{suffix}"


def _sync_tree(root: Path) -> None:
    for path in sorted(root.rglob("*"), reverse=True):
        _sync(path)
    _sync(root)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
