"""The served version: the newest version of a folder that can be loaded and called."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from model_training.errors import BrokenVersionError, ExportError
from model_training.export.servable import Servable
from model_training.export.versions import Found, found_in
from streamer.features import Layout


@dataclass(frozen=True, slots=True)
class Served:
    """The versions of a folder when they were read.

    Attributes:
        found: all versions, broken ones included, oldest first.
        servable: the newest version that can be loaded and called; None if there is none.
        broken: of each newer one, newest first, its path and why it is skipped.
    """

    found: tuple[Found, ...]
    servable: Servable | None
    broken: tuple[str, ...]

    @classmethod
    def of(cls, base_path: Path, check: Callable[[Servable], None] = lambda _: None) -> Self:
        """Reads a folder, and loads its versions from the newest until one of them works.

        Args:
            check: a version for which it raises `BrokenVersionError` does not work; other errors end the search.

        Raises:
            ExportError: the folder cannot be read.
        """
        found, broken = tuple(found_in(base_path)), []
        for version in reversed(found):
            if version.fault is not None:
                broken.append(f"{version.path}: {version.fault}")
                continue
            try:
                servable = _working(version.path)
            except ExportError as error:
                broken.append(str(error))
                continue
            try:
                check(servable)
            except BrokenVersionError as error:
                broken.append(str(error))
                continue
            return cls(found, servable, tuple(broken))
        return cls(found, None, tuple(broken))


def _working(path: Path) -> Servable:
    """A version whose scores are probabilities, at least that of a row without values."""
    servable = Servable.load(path)
    layout = Layout(servable.spec)
    servable.scores(np.zeros((1, layout.row_ids), np.int32), np.zeros((1, layout.row_floats), np.float32))
    return servable
