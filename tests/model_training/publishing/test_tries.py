"""Tries on a test split count once for each candidate, also at the same time."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model_training.errors import ExportError
from model_training.export.versions import found_in
from model_training.publishing.tries import record_try
from tests.model_training.export.test_versions import write_version

SPLIT, OTHER = "ab" * 32, "cd" * 32


def _candidate(folder: Path, weights: bytes) -> Path:
    write_version(folder)
    (folder / "variables" / "variables.index").write_bytes(weights)
    return folder


def test_only_other_candidates_on_the_same_split_count(tmp_path: Path) -> None:
    base, first = tmp_path / "ctr", _candidate(tmp_path / "a" / "1", b"first")
    again, second = _candidate(tmp_path / "b" / "7", b"first"), _candidate(tmp_path / "c" / "1", b"second")
    (again / "notes.txt").write_text("the same graph and variables")
    assert [record_try(base, SPLIT, candidate) for candidate in (first, first, again, second)] == [1, 1, 1, 2]
    assert record_try(base, OTHER, second) == 1
    assert record_try(base, SPLIT, first) == 2, "known candidates meet the others' tries"
    assert found_in(base) == [], "servers see no version"


def test_concurrent_publishes_lose_no_try(tmp_path: Path) -> None:
    base = tmp_path / "ctr"
    candidates = [_candidate(tmp_path / str(i) / "1", bytes([i])) for i in range(12)]
    with ThreadPoolExecutor(8) as pool:
        counted = list(pool.map(lambda candidate: record_try(base, SPLIT, candidate), [*candidates, *candidates]))
    assert max(counted) == record_try(base, SPLIT, candidates[0]) == 12


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "ctr").write_text("a file")
    with pytest.raises(ExportError, match=r"ctr/.gate/tries/\w+: the try cannot be recorded: Not a directory"):
        record_try(tmp_path / "ctr", SPLIT, _candidate(tmp_path / "1", b""))
