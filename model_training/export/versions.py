"""Folders of versions that TensorFlow Serving polls: a version appears whole, or not at all."""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from model_training.errors import ExportError, in_a_line
from model_training.urls import GRAPHS, UrlPath, copy_tree

_TEMPORARY = (".partial", ".removed")
_ABANDONED_SECONDS = 86_400.0


# As absl::SimpleAtoi reads it: TensorFlow Serving takes " 7", "007" and "+7" for version 7, and files too.
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*")
_SHARD = re.compile(r"variables\.data-([0-9]{5})-of-([0-9]{5})")
_VARIABLES = (b"VarHandleOp", b"VariableV2")
_NOT_A_FOLDER = "not a folder"


class Found(NamedTuple):
    """An entry that TensorFlow Serving takes for a version.

    Attributes:
        fault: why a server cannot load or call it; None: nothing is missing.
    """

    number: int
    path: Path
    fault: str | None


def version_number(name: str) -> int | None:
    """The version that TensorFlow Serving reads from a name; None: it ignores the entry."""
    match = _NUMBER.fullmatch(name)
    number = None if match is None else int(match[1])
    return number if number is not None and -(2**63) <= number < 2**63 else None


def found_in(base_path: Path) -> list[Found]:
    """The versions that TensorFlow Serving finds in a folder, oldest first.

    None if there is no such folder. Of two names of one number it takes the last one in the order of bytes.

    Raises:
        ExportError: the folder cannot be read.
    """
    try:
        paths = sorted(base_path.iterdir(), key=lambda path: os.fsencode(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ExportError(f"{base_path}: cannot be read: {in_a_line(error)}") from error
    numbered = {number: path for path in paths if (number := version_number(path.name)) is not None}
    return [Found(number, numbered[number], fault_of(numbered[number])) for number in sorted(numbered)]


def fault_of(path: Path) -> str | None:
    """Why a server cannot load or call the version at `path`; None: no file is missing.

    TensorFlow Serving loads a graph without its variables, and calls the version AVAILABLE; each call then fails.
    """
    try:
        if not path.is_dir():
            return _NOT_A_FOLDER
        graph = next((path / f"saved_model.{kind}" for kind in ("pb", "pbtxt") if _size(path, kind)), None)
        if graph is None:
            return "saved_model.pb is missing or empty"
        if not (path / "variables" / "variables.index").is_file():
            content = graph.read_bytes()
            return "variables are missing" if any(op in content for op in _VARIABLES) else None
        shards = [match for file in (path / "variables").iterdir() if (match := _SHARD.fullmatch(file.name))]
        complete = shards and len(shards) == int(shards[0][2])
    except OSError as error:
        return f"cannot be read: {in_a_line(error)}"
    return None if complete else "a part of its variables is missing"


def _size(path: Path, kind: str) -> int:
    file = path / f"saved_model.{kind}"
    return file.stat().st_size if file.is_file() else 0


def versions_in(base_path: Path) -> list[int]:
    """The complete versions in a folder, oldest first; as `found_in`."""
    return [found.number for found in found_in(base_path) if found.fault is None]


def model_name(base_path: Path) -> str:
    """The model whose versions are in a folder: the folder's own name, also of a symbolic link."""
    return Path(os.path.normpath(base_path.absolute())).name


def beyond(found: Sequence[Found], keep: int) -> list[Found]:
    """The versions that `remove_old` removes; files are no versions of a publisher."""
    kept = [each.number for each in found if each.fault is None][-keep:]
    return [each for each in found if len(kept) == keep and each.number < kept[0] and each.fault != _NOT_A_FOLDER]


def check_free(base_path: Path, version: int) -> None:
    """Rejects a version that `new_version` could not write; called before hours of training.

    Raises:
        ExportError: the version exists under any name, or is not positive or too large for a server.
    """
    if not 1 <= version < 2**63:
        raise ExportError(f"version {version}: must be a positive integer below 2^63")
    for found in found_in(base_path):
        if found.number == version:
            raise ExportError(f"{found.path}: this version exists already; versions are never overwritten")


@contextmanager
def new_version(base_path: Path, version: int) -> Iterator[Path]:
    """Yields a temporary path to write a version to; its name is not a number.

    Servers therefore ignore it. At the end the files are synced to disk and the folder is renamed to
    `base_path/version`. By URL there is no such rename: the path is local, and its files are copied to the version, the
    graph last. After an error nothing remains.

    Raises:
        ExportError: the version exists, is not positive, or cannot be written.
    """
    final = base_path / str(version)
    check_free(base_path, version)
    if isinstance(base_path, UrlPath):
        with _uploaded(base_path / str(version)) as local:
            yield local
        return
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


@contextmanager
def _uploaded(final: UrlPath) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as undo:
        local = Path(scratch, final.name)
        try:
            yield local
            undo.callback(_removed, final)
            copy_tree(local, final)
            undo.pop_all()
        except OSError as error:
            raise ExportError(f"{final}: cannot be written: {in_a_line(error)}") from error


def _removed(path: UrlPath) -> None:
    """Removes a version by URL, its graph first, so that no server starts to load it."""
    for name in GRAPHS:
        (path / name).unlink(missing_ok=True)
    path.rmtree()


def remove_old(base_path: Path, keep: int) -> list[int]:
    """Removes all versions before the `keep` newest complete ones, and returns them.

    A version is renamed first, or by URL loses its graph first, so no server starts to load a version that is half
    removed. A symbolic link is removed, not the folder that it leads to. Temporary folders of publishers that were
    killed are also removed when they are a day old.

    Raises:
        ExportError: a version cannot be removed.
    """
    old = beyond(found_in(base_path), keep)
    for found in old:
        removed = _temporary(base_path, found.number, "removed")
        try:
            if isinstance(found.path, UrlPath):
                _removed(found.path)
                continue
            found.path.rename(removed)
            if removed.is_symlink():
                removed.unlink()
            else:
                shutil.rmtree(removed)
        except FileNotFoundError:
            continue  # another publisher has removed it
        except OSError as error:
            raise ExportError(f"{found.path}: cannot be removed: {in_a_line(error)}") from error
    for left in base_path.glob(".*.*.*"):
        with suppress(FileNotFoundError):  # another publisher has removed it
            if left.suffix in _TEMPORARY and time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    return [found.number for found in old]


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
