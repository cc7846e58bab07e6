"""Versions in a folder: found as TensorFlow Serving finds them, and named when they are broken."""

import errno
from pathlib import Path

import pytest

from model_training.errors import ExportError
from model_training.export import versions
from model_training.export.versions import (
    check_free,
    found_in,
    model_name,
    new_version,
    remove_old,
    version_number,
    versions_in,
)

# As absl::SimpleAtoi of TensorFlow 2.21 answers.
NAMES = {
    "7": 7, "007": 7, " 7": 7, "7 ": 7, "7\n": 7, "\v7": 7, "+7": 7, "-7": -7, "-0": 0, "0": 0,
    "9223372036854775807": 2**63 - 1, "9223372036854775808": None, "-9223372036854775808": -(2**63),
    "- 7": None, "+-7": None, "1_000": None, "": None, " ": None, "1.tmp": None, "0x7": None, "٣": None, "²": None,
    "1.5": None, "7a": None, ".7": None,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_a_name_is_what_tensorflow_serving_reads(name: str) -> None:
    assert version_number(name) == NAMES[name]


def write_version(path: Path, *missing: str) -> Path:
    """A version with the files of a SavedModel that has variables."""
    files = ["saved_model.pb", *(f"variables/variables.{x}" for x in ("index", *SHARDS))]
    for name in files:
        if name not in missing:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(b"VarHandleOp")
    return path


def listed(base: Path) -> list[str]:
    return sorted(path.name for path in base.iterdir())


SHARDS = ("data-00000-of-00002", "data-00001-of-00002")


@pytest.mark.parametrize(
    ("missing", "fault"),
    [
        ((), None),
        (("saved_model.pb",), "saved_model.pb is missing or empty"),
        (("variables/variables.index",), "variables are missing"),
        (("variables/variables.data-00001-of-00002",), "a part of its variables is missing"),
        (tuple(f"variables/variables.{shard}" for shard in SHARDS), "a part of its variables is missing"),
    ],
)
def test_half_a_version_is_named(tmp_path: Path, missing: tuple[str, ...], fault: str | None) -> None:
    path = write_version(tmp_path / "3", *missing)
    assert found_in(tmp_path) == [(3, path, fault)]


def test_other_entries_are_versions_as_the_server_sees_them(tmp_path: Path) -> None:
    write_version(tmp_path / "007")
    write_version(tmp_path / "store" / "x")
    (tmp_path / "8").symlink_to(tmp_path / "store" / "x")
    (tmp_path / "9").symlink_to(tmp_path / "nowhere")
    (tmp_path / "10").touch()
    (tmp_path / "11").mkdir()
    (tmp_path / "11" / "saved_model.pb").touch()
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "saved_model.pbtxt").write_text("a graph without variables", encoding="utf-8")
    (tmp_path / "1.tmp").mkdir()
    assert [(found.number, found.path.name, found.fault) for found in found_in(tmp_path)] == [
        (7, "007", None),
        (8, "8", None),
        (9, "9", "not a folder"),
        (10, "10", "not a folder"),
        (11, "11", "saved_model.pb is missing or empty"),
        (12, "12", None),
    ]
    assert versions_in(tmp_path) == [7, 8, 12]
    assert versions_in(tmp_path / "absent") == versions_in(tmp_path / "10") == []
    for number in (7, 9, 10, 11):
        with pytest.raises(ExportError, match="exists already"):
            check_free(tmp_path, number)
    for number in (0, -1, 2**63):
        with pytest.raises(ExportError, match=r"must be a positive integer below 2\^63"):
            check_free(tmp_path, number)


def test_broken_versions_do_not_count_as_versions_that_remain(tmp_path: Path) -> None:
    for number in (2, 3, 5):
        write_version(tmp_path / f"{number:03}")
    write_version(tmp_path / "1", "saved_model.pb")
    for number in (6, 7, 8):
        write_version(tmp_path / str(number), "variables/variables.index")
    (tmp_path / "0").write_text("somebody's file", encoding="utf-8")
    assert remove_old(tmp_path, 4) == []
    assert remove_old(tmp_path, 2) == [1, 2]
    assert listed(tmp_path) == ["0", "003", "005", "6", "7", "8"]


def test_a_link_is_removed_and_not_its_folder(tmp_path: Path) -> None:
    store = write_version(tmp_path / "store")
    base = tmp_path / "ctr"
    base.mkdir()
    (base / "1").symlink_to(store)
    write_version(base / "2")
    assert remove_old(base, 1) == [1]
    assert (listed(base), (store / "saved_model.pb").is_file()) == (["2"], True)


def test_the_name_of_a_model_is_that_of_its_folder_even_if_it_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "ctr").symlink_to(tmp_path / "volume-17")
    assert model_name(tmp_path / "ctr") == model_name(tmp_path / "x" / ".." / "ctr") == "ctr"


def test_a_folder_that_cannot_be_read_or_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another user, or on a volume where a rename is not possible."""

    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    def other_device(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    write_version(tmp_path / "1")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", other_device)
        with (
            pytest.raises(ExportError, match=r"2: cannot be written: Invalid cross-device link$"),
            new_version(tmp_path, 2) as partial,
        ):
            partial.mkdir()
        write_version(tmp_path / "3")
        with pytest.raises(ExportError, match=r"1: cannot be removed: Invalid cross-device link$"):
            remove_old(tmp_path, 1)
    assert listed(tmp_path) == ["1", "3"]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_dir", denied)
        assert [found.fault for found in versions.found_in(tmp_path)] == ["cannot be read: Permission denied"] * 2
        patch.setattr(Path, "iterdir", denied)
        with pytest.raises(ExportError, match=r"cannot be read: Permission denied$"):
            found_in(tmp_path)
