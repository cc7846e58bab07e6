"""Publishes a version that passed the gate: copies it to the folder that servers poll."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import orjson

from model_training.errors import ConfigError, ExportError
from model_training.export.servable import Servable
from model_training.export.versions import Found, beyond, found_in, model_name, new_version, remove_old
from model_training.export.warmup import WARMUP, write_warmup
from model_training.publishing.card import CARD, Best
from model_training.publishing.version_labels import with_label, write_labels
from model_training.publishing.window import keep_best
from model_training.urls import copy_tree
from streamer.features import Layout

_LIBRARIES = ("tensorflow", "numpy", "ctr-streamer")


@dataclass(frozen=True, slots=True)
class Labelling:
    """A label for the new version, and the model config file in which servers find it."""

    model_config: Path
    label: str

    def text(self, base_path: Path, version: int, left: Sequence[Found]) -> str:
        """The file's new text; raises as `with_label`."""
        return with_label(self.model_config, base_path, self.label, version, left)


def publish(
    candidate: Servable,
    base_path: Path,
    card: Mapping[str, Any],
    *,
    seen: Sequence[Found],
    best: Best | None = None,
    keeps_former: bool = False,
    version: int | None = None,
    keep: int = 3,
    labelling: Labelling | None = None,
) -> tuple[Path, list[int]]:
    """Copies a candidate into `base_path` as a new version with its `CARD`.

    Versions beyond `keep` are removed, the oldest first; the best one is kept where servers do not find it.

    Args:
        seen: the versions in `base_path` when the candidate was compared with the newest one that works. Nothing is
            published if they have changed.
        best: the best version of the window, if it is not the candidate.
        keeps_former: whether a former best version stays, because the candidate was not compared with it.
        version: the number of the new version, by default the newest + 1; a lower number would not be served.
        keep: number of versions that remain, at least 2, so that a rollback is possible.
        labelling: a label for the new version. Nothing is published if a label would name a version that is not served.

    Returns:
        The new version's folder, and the removed versions.

    Raises:
        ConfigError: the model config file cannot be read, or has no such model.
        ExportError: the version cannot be written or would not be the newest, a label would name a version that is not
            served, or the versions have changed. Nothing has changed, unless the message says that the
            version is published.
    """
    present = _check_unchanged(base_path, seen)
    last = present[-1].number if present else 0
    number = max(last, 0) + 1 if version is None else version
    if present and number < last:
        raise ExportError(f"version {number}: {base_path} already has version {last}, which servers prefer")
    path = base_path / str(number)
    if labelling is not None:
        labelling.text(base_path, number, _left([*present, Found(number, path, None)], keep))
    with new_version(base_path, number) as partial:
        copy_tree(candidate.path, partial)
        # The warm-up requests must have the name under which this folder is served.
        write_warmup(Layout(candidate.spec), partial / WARMUP, model_name(base_path))
        origin = _origin(candidate)
        best = best or Best(number, origin["published_at"])
        written = orjson.dumps({**card, "best": best, **origin}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        (partial / CARD).write_bytes(written)
        _check_unchanged(base_path, seen)  # a copy takes long
    try:
        if labelling is not None:
            # The file is read again: another model's label may have moved meanwhile.
            text = labelling.text(base_path, number, _left(found_in(base_path), keep))
            write_labels(labelling.model_config, text)
        keep_best(base_path, best.version, keep, keeps_former=keeps_former)
        return path, remove_old(base_path, keep)
    except (ConfigError, ExportError) as error:
        raise ExportError(f"{path} is published, but a later step failed: {error}") from error


def _check_unchanged(base_path: Path, seen: Sequence[Found]) -> list[Found]:
    present = found_in(base_path)
    if present != list(seen):
        changed = [found.path for found in present if found not in seen]
        path = changed[-1] if changed else base_path
        raise ExportError(f"{path}: the candidate was not compared with this version; run publish again")
    return present


def _left(found: Sequence[Found], keep: int) -> list[Found]:
    """The versions that `remove_old` leaves."""
    removed = beyond(found, keep)
    return [each for each in found if each not in removed]


def _origin(candidate: Servable) -> dict[str, Any]:
    return {
        "spec": {"name": candidate.spec.name, "hash": candidate.spec.hash},
        "parameters": candidate.parameters,
        "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "libraries": {name: installed(name) for name in _LIBRARIES},
    }
