"""The best version of the window: which one it is, and where it stays."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from model_training.errors import ExportError
from model_training.export.versions import found_in, remove_old, versions_in
from model_training.publishing.card import CARD, Best
from model_training.publishing.window import candidates, keep_best
from tests.model_training.export.test_versions import write_version

NOW = datetime(2026, 7, 1, tzinfo=UTC)


def _at(days: float) -> str:
    return (NOW - timedelta(days=days)).isoformat()


def _version(base: Path, number: int, card: object = None) -> Path:
    path = write_version(base / str(number))
    if card is not None:
        (path / CARD).write_bytes(orjson.dumps(card))
    return path


def best_of(newest: Path, days: float, now: datetime) -> tuple[Best, Path]:
    """The first choice."""
    return next(candidates(newest, days, now))


def test_the_newest_version_names_the_best_one(tmp_path: Path) -> None:
    old = _version(tmp_path, 3)
    served = _version(tmp_path, 5, {"published_at": _at(1), "best": Best(3, _at(9))})
    assert best_of(served, 90, NOW) == (Best(3, _at(9)), old)
    itself = Best(5, _at(1)), served
    assert best_of(served, 8, NOW) == itself, "published before the window"
    assert list(candidates(served, 90, NOW)) == [(Best(3, _at(9)), old), itself]
    passed = _version(tmp_path, 4, {"published_at": _at(2)})
    shutil.rmtree(old)
    found = list(candidates(served, 90, NOW))
    assert found == [(Best(3, _at(9)), old), itself, (Best(4, _at(2)), passed)], "the caller names the missing one"


def test_a_forced_version_is_not_the_bar_when_the_best_one_expires(tmp_path: Path) -> None:
    old = _version(tmp_path, 3, {"published_at": _at(99)})
    served = _version(tmp_path, 5, {"published_at": _at(1), "forced": True, "best": Best(3, _at(99))})
    assert best_of(served, 90, NOW) == (Best(3, _at(99)), old), "no other passed the gate"
    passed = _version(tmp_path, 4, {"published_at": _at(9), "forced": False})
    assert best_of(served, 90, NOW) == (Best(4, _at(9)), passed)
    assert best_of(served, 0, NOW) == (Best(5, _at(1)), served)


def test_without_a_named_version_the_newest_is_the_best(tmp_path: Path) -> None:
    _version(tmp_path, 3)
    served = _version(tmp_path, 5, {"published_at": _at(1), "best": None})
    assert list(candidates(served, 90, NOW)) == [(Best(5, _at(1)), served)]
    (served / CARD).unlink()
    assert best_of(served, 90, NOW) == (Best(5, NOW.isoformat(timespec="seconds")), served)


@pytest.mark.parametrize(
    ("best", "field"),
    [
        (3, "best"),
        ({"version": 3}, "best.published_at"),
        ({"version": 3, "published_at": "?"}, "best.published_at"),
        ({"version": 3, "published_at": "2026-07-01T00:00:00"}, "best.published_at"),
        ({"version": "x", "published_at": _at(1)}, "best.version"),
    ],
)
def test_a_damaged_card_does_not_change_the_bar(tmp_path: Path, best: object, field: str) -> None:
    served = _version(tmp_path, 5, {"published_at": _at(1), "best": best})
    with pytest.raises(ExportError, match=rf"5/model_card\.json: {field}: .*; repair the model card, or remove"):
        best_of(served, 90, NOW)
    (served / CARD).write_bytes(b"[1")
    with pytest.raises(ExportError, match=r"5/model_card\.json: cannot be read"):
        best_of(served, 90, NOW)


def test_the_best_version_stays_where_servers_do_not_find_it(tmp_path: Path) -> None:
    for number in (1, 2, 3, 4):
        _version(tmp_path, number, {"published_at": _at(1), "best": Best(1, _at(5))})
    keep_best(tmp_path, 1, 2)
    assert remove_old(tmp_path, 2) == [2]
    assert versions_in(tmp_path) == [3, 4]
    best, path = best_of(tmp_path / "4", 90, NOW)
    assert best.version == 1
    assert found_in(path.parent)[0].fault is None
    keep_best(tmp_path, 4, 2)
    assert found_in(path.parent) == []


def test_a_link_to_the_best_version_still_leads_to_it(tmp_path: Path) -> None:
    base = tmp_path / "ctr"
    for number in (2, 3):
        _version(base, number, {"best": Best(1, _at(5))})
    _version(tmp_path / "elsewhere", 1)
    (base / "1").symlink_to("../elsewhere/1")
    keep_best(base, 1, 2)
    assert remove_old(base, 2) == [1]
    assert best_of(base / "3", 90, NOW)[1].resolve() == tmp_path / "elsewhere" / "1"
    keep_best(base, 3, 2)
    assert versions_in(tmp_path / "elsewhere") == [1]
