"""The best published version of the last days, which stays the bar for later ones.

The newest version's card names the best version. When the best version leaves the served ones, its folder moves to a
folder that servers ignore.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from model_training.errors import ExportError, in_a_line
from model_training.export.versions import Found, beyond, found_in, version_number
from model_training.publishing.tries import RECORDS
from model_training.urls import UrlPath, copy_tree

CARD = "model_card.json"


@dataclass(frozen=True, slots=True)
class Best:
    """The best version of the window, and the time of its publication in ISO 8601."""

    version: int
    published_at: str


def best_of(served: Path, days: float, now: datetime) -> tuple[Best, Path]:
    """The version that the newest version's card names as the best one, and its folder.

    It is the newest version itself, `served`, if the card names no other, or if the named one is no longer there. If
    that was published more than `days` before `now`, the newest version of these days follows that was not forced;
    without such a version the named one stays.

    Raises:
        ExportError: a folder of versions cannot be read.
    """
    card = _card(served)
    itself = Best(version_number(served.name) or 0, str(card.get("published_at") or now.isoformat(timespec="seconds")))
    try:
        named = Best(int(card["best"]["version"]), card["best"]["published_at"])
        is_old = now - datetime.fromisoformat(named.published_at) > timedelta(days=days)
    except (KeyError, TypeError, ValueError):
        return itself, served
    present = {found.number: found.path for found in _present(served.parent) if found.fault is None}
    if days == 0 or named.version == itself.version or named.version not in present:
        return itself, served
    if not is_old:
        return named, present[named.version]
    for number in sorted(present, reverse=True):
        if number <= itself.version and (at := _unforced_at(present[number], days, now)) is not None:
            return Best(number, at), present[number]
    return named, present[named.version]


def keep_best(base_path: Path, best: int, keep: int, *, keeps_former: bool = False) -> None:
    """Moves the best version out of the folder if it is too old to be served; by URL, copies it.

    It is too old beyond the `keep` newest complete versions. A former best version is removed, unless `keeps_former`.

    Raises:
        ExportError: a version cannot be moved or removed.
    """
    kept = base_path / RECORDS / "best"
    try:
        for found in beyond(found_in(base_path), keep):
            if found.number == best and found.fault is None:
                kept.mkdir(parents=True, exist_ok=True)
                if isinstance(found.path, UrlPath):  # a folder by URL has no rename
                    copy_tree(found.path, kept / str(best))
                elif found.path.is_symlink():
                    (kept / str(best)).unlink(missing_ok=True)  # of a publisher that was killed after it
                    (kept / str(best)).symlink_to(found.path.resolve())
                else:
                    found.path.rename(kept / str(best))
        for found in found_in(kept):
            if found.number == best or keeps_former:
                continue
            if isinstance(found.path, UrlPath):
                found.path.rmtree()
            elif found.path.is_symlink():
                found.path.unlink()
            else:
                shutil.rmtree(found.path)
    except FileNotFoundError:
        return  # another publisher did it
    except OSError as error:
        raise ExportError(f"{kept}: the best version cannot be kept there: {in_a_line(error)}") from error


def _unforced_at(version: Path, days: float, now: datetime) -> str | None:
    """When a version passed the gate; None if it was forced or is older than `days`."""
    card = _card(version)
    try:
        at = str(card["published_at"])
        passed = not card.get("forced") and now - datetime.fromisoformat(at) <= timedelta(days=days)
    except (KeyError, TypeError, ValueError):
        return None
    return at if passed else None


def _present(base_path: Path) -> Iterator[Found]:
    yield from found_in(base_path)
    yield from found_in(base_path / RECORDS / "best")


def _card(version: Path) -> Mapping[str, Any]:
    """The model card of a version; empty if there is none."""
    try:
        content = orjson.loads((version / CARD).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return content if isinstance(content, Mapping) else {}
