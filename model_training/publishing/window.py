"""The best published version of the last days, which stays the bar for later ones.

The newest version's card names the best version. When the best version leaves the served ones, its folder moves to a
folder that servers ignore.
"""

import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from model_training.errors import ExportError, in_a_line
from model_training.export.versions import beyond, found_in, version_number
from model_training.publishing.card import Best, Card, read_card
from model_training.publishing.tries import RECORDS
from model_training.urls import UrlPath, copy_tree


def candidates(newest: Path, days: float, now: datetime) -> Iterator[tuple[Best, Path]]:
    """The versions that may be the best one of the window, and their folders.

    In the order of choice:

    1. The version that the card of the newest one names, unless it was published more than `days` before `now`.
    2. The versions of these days that were not forced, the newest first.
    3. The named one, if it is older.
    4. The newest version itself; it is the only one if `days` is 0, and the first one if its card names none.

    The folder of a choice may be gone or damaged.

    Args:
        newest: folder of the newest version.

    Raises:
        ExportError: a folder of versions or a card cannot be read.
    """
    card = read_card(newest) or Card()
    itself = Best(version_number(newest.name) or 0, card.published_at or now.isoformat(timespec="seconds"))
    folders, done = {itself.version: newest}, set[int]()
    for found in (*found_in(newest.parent), *found_in(newest.parent / RECORDS / "best")) if days else ():
        if found.fault is None:
            folders.setdefault(found.number, found.path)

    def choices() -> Iterator[Best]:
        named = card.best or itself
        is_old = named != itself and _age(named.published_at, now) > timedelta(days=days)
        if not is_old:
            yield named
        for number in sorted(folders, reverse=True):
            if number <= itself.version and (at := _passed_at(folders[number], days, now)) is not None:
                yield Best(number, at)
        yield named
        yield itself

    for best in choices() if days else (itself,):
        if best.version not in done:
            done.add(best.version)
            yield best, folders.get(best.version, newest.parent / str(best.version))


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


def _passed_at(version: Path, days: float, now: datetime) -> str | None:
    """When a version passed the gate; None if it is older than `days`, forced, or has no card."""
    card = read_card(version)
    if card is None or card.published_at is None or card.forced:
        return None
    return card.published_at if _age(card.published_at, now) <= timedelta(days=days) else None


def _age(published_at: str, now: datetime) -> timedelta:
    return now - datetime.fromisoformat(published_at)
