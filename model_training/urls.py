"""Paths by URL, such as gs://bucket/folder, on TensorFlow's file systems."""

import errno
import io
import re
import shutil
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path, PosixPath
from typing import IO, Any, NamedTuple

from model_training.errors import ConfigError
from model_training.runtime import load_tensorflow

GRAPHS = ("saved_model.pb", "saved_model.pbtxt")
"""The names of a SavedModel's graph."""

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://?(?=[^/])")
"""The beginning of a URL, also after pathlib has removed one of two slashes."""


def path_or_url(text: str) -> Path:
    """The path of an option that also takes a URL."""
    is_url = _URL.match(text) and not text.startswith("file:")
    return UrlPath(text) if is_url else Path(text.removeprefix("file://"))


def check_path(name: str, value: object) -> None:
    """Rejects a URL that this option or TensorFlow does not take.

    Raises:
        ConfigError: names the option and the URL.
    """
    found = _URL.match(str(value)) if isinstance(value, Path) else None
    if found is None:
        return
    if not isinstance(value, UrlPath):
        where = _URL.sub(r"\1://", str(value))
        raise ConfigError(f"{name} {where}: takes no URL, only a path of this machine: copy the file or folder")
    schemes = sorted(set(_gfile().get_registered_schemes()) - {"", "file"})
    if found[1] not in schemes:
        raise ConfigError(f"{name} {value}: TensorFlow has no file system for {found[1]}; it has {', '.join(schemes)}")


def copy_tree(source: Path, target: Path) -> None:
    """Copies the files of a folder, the graph of a model last.

    Without its graph no server can load a version.

    Raises:
        OSError: a file cannot be read or written.
    """
    if not isinstance(source, UrlPath) and not isinstance(target, UrlPath):
        shutil.copytree(source, target)
        return
    files = [file for file in source.rglob("*") if file.is_file()]
    for file in sorted(files, key=lambda file: (file.name in GRAPHS, file)):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with _os_errors():
            _gfile().copy(str(file), str(copy), overwrite=True)


class _Status(NamedTuple):
    st_size: int
    st_mtime: float


class UrlPath(PosixPath):
    """A path on one of TensorFlow's file systems.

    It has the operations of local paths that this package uses, and no others. Object stores have no folders and no
    atomic rename of many files. So a name that must appear whole is one file.
    Errors are those of local files: `FileNotFoundError`, else `OSError`.
    """

    # Overrides methods of the standard library, which gives their names and arguments.

    def __str__(self) -> str:
        return _URL.sub(r"\1://", super().__str__(), count=1)

    def __truediv__(self, key: Any) -> "UrlPath":
        return UrlPath(str(key)) if _URL.match(str(key)) else super().__truediv__(key)

    def open(self, mode: str = "r", *_: Any, **__: Any) -> IO[Any]:  # type: ignore[override]
        """Opens the file for reading bytes."""
        if mode != "rb":
            raise OSError(errno.EINVAL, f"cannot be opened with mode {mode!r}")
        return io.BufferedReader(_Reader(self), 1 << 20)

    def read_bytes(self) -> bytes:
        """The content of the file."""
        with self.open("rb") as file:
            return bytes(file.read())

    def read_text(self, encoding: str | None = None, *_: Any, **__: Any) -> str:
        """The content of the file."""
        return self.read_bytes().decode(encoding or "utf-8")

    def write_bytes(self, data: Any) -> int:
        """Writes the file, which appears whole."""
        with _os_errors(), _gfile().GFile(str(self), "wb") as file:
            file.write(bytes(data))
        return len(data)

    def write_text(self, data: str, encoding: str | None = None, *_: Any, **__: Any) -> int:
        """Writes the file, which appears whole."""
        return self.write_bytes(data.encode(encoding or "utf-8"))

    def touch(self, *_: Any, **__: Any) -> None:
        """Makes an empty file."""
        self.write_bytes(b"")

    def exists(self, *_: Any, **__: Any) -> bool:
        """Whether there is such a file or folder."""
        with _os_errors():
            return bool(_gfile().exists(str(self)))

    def is_dir(self, *_: Any, **__: Any) -> bool:
        """Whether it is a folder."""
        with _os_errors():
            return bool(_gfile().isdir(str(self)))

    def is_file(self, *_: Any, **__: Any) -> bool:
        """Whether it is a file."""
        return self.exists() and not self.is_dir()

    def is_symlink(self) -> bool:
        """These file systems have no links."""
        return False

    def stat(self, *_: Any, **__: Any) -> Any:
        """Size in bytes, and the time of the last change."""
        with _os_errors():
            found = _gfile().stat(str(self))
        return _Status(int(found.length), found.mtime_nsec / 1e9)

    def iterdir(self) -> Generator["UrlPath", None, None]:
        """The entries of the folder."""
        with _os_errors():
            names = _gfile().listdir(str(self))
        yield from (self / name for name in names)

    def glob(self, pattern: str, *_: Any, **__: Any) -> Iterator["UrlPath"]:  # type: ignore[override]
        """The entries whose names match; all files below the folder for `**/*`."""
        if pattern == "**/*":
            return self.rglob()
        with _os_errors():
            found = _gfile().glob(f"{self}/{pattern}")
        return map(UrlPath, found)

    def rglob(self, pattern: str = "*", *_: Any, **__: Any) -> Iterator["UrlPath"]:  # type: ignore[override]
        """All files below the folder, for the pattern `*`."""
        assert pattern == "*"
        with _os_errors():
            walked = list(_gfile().walk(str(self)))
        return (UrlPath(folder) / name for folder, _, names in walked for name in names)

    def mkdir(self, *_: Any, **__: Any) -> None:
        """Makes the folder and its parents, if they do not exist."""
        with _os_errors():
            _gfile().makedirs(str(self))

    def rename(self, target: Any) -> "UrlPath":
        """Renames a file, and replaces the target."""
        with _os_errors():
            _gfile().rename(str(self), str(target), overwrite=True)
        return UrlPath(str(target))

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the file."""
        try:
            with _os_errors():
                _gfile().remove(str(self))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rmtree(self) -> None:
        """Removes the folder and all below it."""
        with _os_errors():
            _gfile().rmtree(str(self))

    def absolute(self) -> "UrlPath":
        """A URL is absolute."""
        return self

    def resolve(self, strict: bool = False) -> "UrlPath":
        """A URL has no links."""
        return self


class _Reader(io.RawIOBase):
    """A file by URL, as Python's buffers read it."""

    def __init__(self, path: UrlPath) -> None:
        self._file = _gfile().GFile(str(path), "rb")
        with _os_errors():
            self._file.size()  # TensorFlow opens a file when it is first read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _os_errors():
            found = self._file.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        self._file.close()
        super().close()


def _gfile() -> Any:
    if "tensorflow" not in sys.modules:
        load_tensorflow()
    import tensorflow as tf  # noqa: PLC0415 - takes seconds, and only a URL needs it

    return tf.io.gfile


@contextmanager
def _os_errors() -> Iterator[None]:
    import tensorflow as tf  # noqa: PLC0415

    try:
        yield
    except tf.errors.NotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, error.message or "there is no such file or folder") from error
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, error.message) from error
