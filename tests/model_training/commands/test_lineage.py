"""A run's lineage from `train` to `publish`, and the same weights again."""

import shutil
from pathlib import Path

import orjson
import pytest
import yaml
from typer.testing import CliRunner

from model_training.commands import app
from model_training.config.training import TrainingConfig
from model_training.data.training_data import split_log
from model_training.lineage.lineage import FILE
from model_training.training.single_process import train_records
from streamer.features import FeatureSpec
from tests.model_training.conftest import SPEC, click_log

pytestmark = pytest.mark.tensorflow

_MODEL = {"spec": "spec.yaml", "model": {"kind": "wide_deep", "hidden_units": [8]}, "batch_size": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log, a config, and the version `models/1` that `train` made of them."""
    folder = tmp_path_factory.mktemp("lineage")
    click_log(folder / "log.jsonl", 200)
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC), encoding="utf-8")
    (folder / "model.yaml").write_text(yaml.safe_dump(_MODEL), encoding="utf-8")
    status, output = _run(
        "train", "--log", folder / "log.jsonl", "--config", folder / "model.yaml", "--export-to", folder / "models"
    )
    assert status == 0, output
    return folder


def _run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, " ".join(result.output.split())


def _lineage(version: Path) -> dict[str, object]:
    return orjson.loads((version / FILE).read_bytes())  # type: ignore[no-any-return]


def test_one_seed_gives_the_same_bits_and_another_does_not(tmp_path: Path) -> None:
    spec = FeatureSpec.from_mapping(SPEC)
    data = split_log(click_log(tmp_path / "log.jsonl", 100), tmp_path / "records", spec, holdout=0.0)

    def weights(seed: int) -> list[bytes]:
        config = TrainingConfig.model_validate(_MODEL | {"seed": seed})
        model, _ = train_records(data.directory, data.manifest, spec, config)
        return [variable.numpy().tobytes() for variable in model.trainable_variables]

    first, again, other = weights(1), weights(1), weights(2)
    assert first == again
    assert all(one != two for one, two in zip(first, other, strict=True) if len(set(one)) > 1)


def test_a_version_records_its_run(folder: Path) -> None:
    found = _lineage(folder / "models" / "1")
    assert found["config"]["model"]["hidden_units"] == [8]  # type: ignore[index]
    data = found["data"]
    assert isinstance(data, dict)
    assert {name: rows["examples"] for name, rows in data["splits"].items()} == {"train": 540, "test": 60}
    assert (data["splits"]["train"]["last_ms"], data["splits"]["test"]["first_ms"]) == (179, 180)
    assert found["progress"] == {"steps": 9, "examples": 540, "epochs": 1.0, "best_examples": None}
    assert (found["seed"], found["spec_hash"]) == (1, FeatureSpec.from_mapping(SPEC).hash)
    assert "tensorflow" in found["machine"]["libraries"]  # type: ignore[index]


def test_rows_that_a_version_has_seen_judge_nothing(folder: Path) -> None:
    version, log = folder / "models" / "1", folder / "log.jsonl"
    options = ("--log", log, "--holdout", "0.3")
    for command in (("evaluate", version), ("publish", version, "--to", folder / "served")):
        status, output = _run(*command, *options)
        assert status == 2, output
        assert "models/1: has seen the rows on which it would be judged: it was trained with rows from 1970" in output
    assert not (folder / "served").exists()
    status, output = _run("publish", version, "--to", folder / "served", *options, "--force")
    assert status == 0, output
    card = orjson.loads((folder / "served" / "1" / "model_card.json").read_bytes())
    assert (card["forced"], card["lineage"]) == (True, _lineage(version))
    assert card["unseen"]["candidate"].startswith("it was trained with rows from")


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 3, "early_stopping": {"every_examples": 100, "final_fit": True}, "deep": {"dropout": 0.2}},
        {"epochs": 2, "early_stopping": {"patience": 1}, "export": {"calibration": "isotonic"}},
        {"deep": {"optimizer": "adam", "schedule": {"decay": "cosine"}}, "export": {"compute": "bfloat16"}},
    ],
)
def test_a_run_with_more_settings_is_reproduced(folder: Path, tmp_path: Path, settings: dict[str, object]) -> None:
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC), encoding="utf-8")
    config, base = tmp_path / "model.yaml", tmp_path / "models"
    config.write_text(yaml.safe_dump(_MODEL | settings), encoding="utf-8")
    log = ("--log", folder / "log.jsonl")
    status, output = _run("train", *log, "--config", config, "--export-to", base)
    assert status == 0, output
    status, output = _run("reproduce", base, *log)
    assert (status, "equal: every bit" in output) == (0, True), output


@pytest.mark.slow
def test_a_version_is_reproduced_bit_by_bit(folder: Path, tmp_path: Path) -> None:
    version, log = folder / "models" / "1", folder / "log.jsonl"
    status, output = _run("reproduce", folder / "models", "--log", log, "--export-to", tmp_path / "again")
    assert status == 0, output
    assert "equal: every bit of the weights" in output
    assert _lineage(tmp_path / "again" / "1")["config"] == _lineage(version)["config"]

    def changed(key: str, value: object) -> None:
        content = _lineage(version)
        part = content
        *path, last = key.split(".")
        for name in path:
            part = part[name]  # type: ignore[assignment]
        part[last] = value
        (tmp_path / "again" / "1" / FILE).write_bytes(orjson.dumps(content))

    again = ("reproduce", tmp_path / "again" / "1", "--log")
    changed("config.seed", 2)
    status, output = _run(*again, log)
    assert (status, "variables differ" in output, "model/deep/output_kernel" in output) == (1, True, True), output
    for key, value, message in (
        ("config.deterministic", False, "was trained with `deterministic: false`"),
        ("processes.kind", "mirrored", "1 processes trained it (mirrored); only the training of a single process"),
        ("data", None, "was not trained"),
        ("data.kind", "prepared", "the version was trained on a prepared, not on a log"),
        ("config.epochs", "x", "its config does not fit this version of the program: epochs"),
    ):
        changed(key, value)
        status, output = _run(*again, log)
        assert (status, message in output) == (2, True), output
    changed("seed", 1)
    status, output = _run(*again, click_log(tmp_path / "other.jsonl", 200, seed=2))
    assert (status, "split 'train' has checksum" in output) == (2, True), output


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"epochs": 3, "early_stopping": {"every_examples": 100, "final_fit": True}}])
def test_a_run_that_began_with_another_model_is_reproduced(
    folder: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC), encoding="utf-8")
    config, base, run = tmp_path / "model.yaml", tmp_path / "models", tmp_path / "run"
    config.write_text(yaml.safe_dump(_MODEL | settings), encoding="utf-8")
    log = ("--log", click_log(tmp_path / "later.jsonl", 150, seed=3))
    first = ("train", "--log", folder / "log.jsonl", "--config", folder / "model.yaml", "--checkpoints", run)
    assert _run(*first)[0] == 0
    for version, start in enumerate((folder / "models" / "1", run), 1):
        status, output = _run(
            *("train", *log, "--config", config, "--export-to", base, "--version", version, "--from", start)
        )
        assert status == 0, output
        status, output = _run("reproduce", base, *log, "--export-to", tmp_path / f"again-{version}")
        assert (status, "equal: every bit" in output) == (0, True), output
        again = _lineage(tmp_path / f"again-{version}" / "1")
        for name in ("begins_with", "config"):
            assert again[name] == _lineage(base / str(version))[name]


def test_a_version_whose_first_model_is_gone_or_changed_is_not_reproduced(folder: Path, tmp_path: Path) -> None:
    """Version 1 is its own source here: only the record matters."""
    version, log = shutil.copytree(folder / "models" / "1", tmp_path / "1"), ("--log", folder / "log.jsonl")

    def began(**with_: str) -> None:
        (version / FILE).write_bytes(orjson.dumps(_lineage(folder / "models" / "1") | {"begins_with": with_}))

    began(path=str(tmp_path / "gone"), sha256="0")
    status, output = _run("reproduce", version, *log)
    assert (status, output.count("error: ")) == (2, 1), output
    assert "gone: neither an exported version nor a folder of checkpoints" in output
    assert "began with this model: --warm-start names its place" in output
    began(path=str(folder / "models" / "1"), sha256="0")
    status, output = _run("reproduce", version, *log)
    assert (status, "and " + str(version) + " began with a model of checksum 0" in output) == (2, True), output
    status, output = _run("reproduce", folder / "models", *log, "--from", version)
    assert (status, "began with random weights" in output) == (2, True), output
