"""The record of a version: what it holds, what it tells of test rows, and what it says of an older version."""

import gzip
import hashlib
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from model_training.commands import app
from model_training.config.training import TrainingConfig
from model_training.data.click_log import log_parts
from model_training.errors import ConfigError, ExportError
from model_training.lineage.differences import differences
from model_training.lineage.lineage import (
    FILE,
    Code,
    Data,
    Lineage,
    Machine,
    Processes,
    Progress,
    Rows,
    read_lineage,
    write_lineage,
)
from model_training.lineage.record import config_of, recorded
from model_training.lineage.unseen import can_tell, seen_before
from tests.model_training.conftest import click_log
from tests.model_training.export.test_versions import write_version

pytestmark = pytest.mark.tensorflow

CODE = Code("0.2.0", "a" * 40, dirty=False)
MACHINE = Machine("3.11.7", {"tensorflow": "2.21.0"}, "x86_64", "a CPU", ("avx2", "fma"), 2)
TRAIN, TEST = Rows("11", 90, 9, 0, 1_000), Rows("33", 10, 1, 1_000, 2_000)
DATA = Data("log", "clicks.jsonl", None, ("train",), {"train": TRAIN, "test": TEST}, holdout=0.1)
LINEAGE = Lineage(
    recorded(TrainingConfig(spec=Path("spec.yaml"))), 1, "small", "ab12", DATA, Progress(10, 90, 1.0), Processes(),
    CODE, MACHINE, "2026-01-01T00:00:00+00:00", "2026-01-01T00:01:00+00:00",
)  # fmt: skip


def _show(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["show", *map(str, arguments)], env={"COLUMNS": "200"})
    return result.exit_code, result.output


@pytest.mark.parametrize("path", sorted(Path("configs/models").rglob("*.yaml")), ids=str)
def test_a_recorded_config_is_read_again(path: Path) -> None:
    config = TrainingConfig.from_yaml(path)
    content = orjson.loads(orjson.dumps(recorded(config)))
    assert set(content) >= set(TrainingConfig.model_fields) - {"wide", "deep"}
    assert config_of(content, "a version") == config
    with pytest.raises(ConfigError, match="a version: its config does not fit this version of the program: bach_size"):
        config_of(content | {"bach_size": 1}, "a version")


def test_a_record_is_written_and_read(tmp_path: Path) -> None:
    assert read_lineage(tmp_path) is None
    write_lineage(tmp_path, LINEAGE)
    assert read_lineage(tmp_path) == LINEAGE
    content = orjson.loads((tmp_path / FILE).read_bytes())
    assert content["data"]["splits"]["train"]["click_rate"] == 0.1
    for wrong, message in (
        (b"{", "cannot be read"),
        (b'{"format": 9}', "a newer version of this program wrote it"),
        (b"{}", "json: config: Field required"),
    ):
        (tmp_path / FILE).write_bytes(wrong)
        with pytest.raises(ExportError, match=message):
            read_lineage(tmp_path)


@pytest.mark.parametrize(
    ("first_ms", "last_ms", "is_seen"),
    [(0, 20, True), (5, 6, True), (5, 5, True), (-5, 1, True), (9, 30, True), (-5, 30, True), (10, 20, False),
     (10, 10, False), (-9, 0, False), (11, 20, False)],
)  # fmt: skip
def test_rows_of_the_time_of_the_training_are_seen(first_ms: int, last_ms: int, is_seen: bool) -> None:
    lineage = replace(LINEAGE, data=replace(DATA, splits={"train": Rows("11", 9, 1, 0, 10)}))
    judged = Rows("44", 9, 1, first_ms, last_ms)
    assert (seen_before(lineage, judged) is not None) is is_seen
    assert lineage.data is not None
    prepared = replace(lineage, data=replace(lineage.data, kind="prepared"))
    meets = first_ms in {0, 10} or last_ms in {0, 10}
    assert (seen_before(prepared, judged) is not None) is (is_seen or meets)
    assert (seen_before(prepared, judged, of_log=True) is not None) is is_seen
    assert can_tell(lineage, judged)


def test_rows_are_known_by_their_checksum_and_a_chosen_model_has_seen_its_validation_rows() -> None:
    assert seen_before(LINEAGE, TEST) is None
    same = Rows("11", 90, 9)
    assert seen_before(LINEAGE, same) == "it was trained with these rows (its split 'train')"
    assert not can_tell(LINEAGE, same)
    stopped = replace(LINEAGE, data=replace(DATA, seen=("train", "test")))
    assert seen_before(stopped, TEST) == "it was trained with these rows (its split 'test')"
    untrained = replace(LINEAGE, data=None)
    assert seen_before(untrained, TRAIN) is None
    assert can_tell(untrained, TRAIN)


def test_rows_that_were_seen_before_a_warm_start_count() -> None:
    earlier = Rows("earlier", 50, 5, 50_000, 60_000)
    lineage = replace(LINEAGE, data=replace(DATA, before=(earlier,)))
    for rows in (earlier, Rows("other", 10, 1, 55_000, 55_500)):
        assert "seen before its warm start" in str(seen_before(lineage, rows))
    assert can_tell(lineage, TEST) is can_tell(LINEAGE, TEST)
    assert not can_tell(replace(lineage, data=replace(DATA, before=None)), TEST)


def test_parts_of_a_log(tmp_path: Path) -> None:
    log = click_log(tmp_path / "log.jsonl", 10)
    lines = log.read_bytes().splitlines(keepends=True)
    packed = tmp_path / "log.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    parts = log_parts(log, [2, 6, 9])
    assert parts == log_parts(packed, [2, 6, 9])
    assert [part.sha256 for part in parts] == [
        hashlib.sha256(b"".join(some)).hexdigest() for some in (lines[2:6], lines[6:9], lines[9:])
    ]
    assert [(part.examples, part.first_ms, part.last_ms) for part in parts] == [(12, 2, 5), (9, 6, 8), (3, 9, 9)]
    assert sum(part.clicks for part in parts) == sum(sum(orjson.loads(line)["clicked"]) for line in lines[2:])
    (none,) = log_parts(log, [10])
    assert (none.examples, none.first_ms, none.last_ms) == (0, None, None)


def test_differences_are_named() -> None:
    assert differences((CODE, MACHINE), (CODE, MACHINE)) == []
    later = replace(MACHINE, libraries={"tensorflow": "2.22.0"}, cpu_features=("avx2",))
    assert differences((CODE, MACHINE), (replace(CODE, commit=None), later)) == [
        f"code.commit: {'a' * 40} then, unknown now",
        "libraries.tensorflow: 2.21.0 then, 2.22.0 now",
        "cpu_features: avx2 fma then, avx2 now",
    ]
    dirty = replace(CODE, dirty=True)
    assert differences((dirty, MACHINE), (dirty, MACHINE)) == [
        "code: the version was trained with changes that no commit has"
    ]


def test_a_version_is_shown_for_people_and_for_programs(tmp_path: Path) -> None:
    version = write_version(tmp_path / "ctr" / "7")
    write_lineage(version, LINEAGE)
    (tmp_path / "ctr" / "8").mkdir()
    status, output = _show(tmp_path / "ctr")
    assert status == 0, output
    for part in (
        "90 examples, 9 clicks (10.000%)",
        "1970-01-01 00:00:01",
        "commit aaaa",
        "avx2 fma",
        "tensorflow 2.21.0",
    ):
        assert part in output
    status, output = _show(version, "--json")
    content = orjson.loads(output)
    assert (content["path"], content["unknown"], content["card"]) == (str(version), [], None)
    assert content["lineage"]["config"]["batch_size"] == 1024


def test_a_version_of_an_older_program_and_no_version(tmp_path: Path) -> None:
    version = write_version(tmp_path / "ctr" / "7")
    card = {"spec": {"name": "small", "hash": "ab12"}, "published_at": "2026-01-01T00:00:00+00:00", "forced": True}
    (version / "model_card.json").write_bytes(orjson.dumps(card))
    status, output = _show(version)
    assert status == 0, output
    assert "small ab12" in output
    assert "not known: config, seed, data, progress" in output
    status, output = _show(version, "--json")
    content = orjson.loads(output)
    assert (content["lineage"], content["card"]) == (None, card)
    assert "seed" in content["unknown"]
    (tmp_path / "empty").mkdir()
    for path, message in (("empty", "saved_model.pb is missing or empty"), ("absent", "not a folder")):
        status, output = _show(tmp_path / path)
        assert (status, output) == (2, f"error: {tmp_path / path}: is no version ({message}), and holds none\n")
