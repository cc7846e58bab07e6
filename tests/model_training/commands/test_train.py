"""The commands of `model-training`, from a log on disk to a version on disk."""

from pathlib import Path

import numpy as np
import orjson
import pytest
import yaml
from typer.testing import CliRunner

from model_training.commands import app
from model_training.config.model import KINDS
from model_training.lineage.lineage import read_lineage
from tests.model_training.conftest import SPEC, click_log
from tests.model_training.disk import files_end_at

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC), encoding="utf-8")
    path = tmp_path / "model.yaml"
    path.write_text(
        "spec: spec.yaml\nmodel: {kind: wide_deep, hidden_units: [8]}\nbatch_size: 128\nshuffle_buffer: 1000\n",
        encoding="utf-8",
    )
    return path


def _run(*arguments: str | Path, command: str = "train") -> tuple[int, str]:
    result = CliRunner().invoke(app, [command, *map(str, arguments)])
    return result.exit_code, result.output


def test_a_log_becomes_a_version(tmp_path: Path, config: Path, log: Path) -> None:
    base = tmp_path / "models" / "small"
    status, output = _run(
        "--log", log, "--config", config, "--export-to", base, "--version", "4", "--baseline",
        "--predictions", tmp_path / "scores.npz",
    )  # fmt: skip
    assert status == 0, output
    assert (base / "4" / "saved_model.pb").exists()
    for part in ("5,400 examples", "examples/s", "wide_deep", "baseline", "MB"):
        assert part in output
    plain = " ".join(output.split())
    assert "feature 'likes' has no value in 1,800 requests: nothing is at its path user.likes" in plain
    assert "9 of 10" not in plain
    with np.load(tmp_path / "scores.npz") as predictions:
        assert sorted(predictions) == ["baseline", "labels", "wide_deep"]
        assert {predictions[name].shape for name in predictions} == {(600,)}
        assert ((predictions["wide_deep"] > 0) & (predictions["wide_deep"] < 1)).all()


def test_a_kept_run_that_stops_early_reports_it(tmp_path: Path, config: Path, log: Path) -> None:
    with config.open("a", encoding="utf-8") as file:
        file.write("epochs: 9\nearly_stopping: {patience: 1, every_examples: 640}\n")
    arguments = ("--log", log, "--config", config, "--checkpoints", tmp_path / "run")
    status, output = _run(*arguments)
    assert status == 0, output
    assert "best of validation: auc 0." in " ".join(output.split())
    assert "stopped after" in " ".join(output.split())
    status, output = _run(*arguments)
    assert status == 0, output
    assert "no steps: an earlier run has made all of them; best of validation: auc 0." in " ".join(output.split())


def test_a_full_disk_is_one_line(tmp_path: Path, config: Path, log: Path) -> None:
    base = tmp_path / "ctr"
    with files_end_at(20_000):
        status, output = _run("--log", log, "--config", config, "--export-to", base)
    assert status == 2
    (line,) = output.strip().splitlines()
    assert "cannot be written: " in line
    assert "File too large" in line
    assert not base.exists()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "wide_deep"])
def test_every_model_becomes_a_version(tmp_path: Path, config: Path, kind: str) -> None:
    text = config.read_text(encoding="utf-8").replace("{kind: wide_deep, hidden_units: [8]}", kind)
    config.write_text(text, encoding="utf-8")
    few, base = click_log(tmp_path / "few.jsonl", 60), tmp_path / "models" / kind
    status, output = _run("--log", few, "--config", config, "--export-to", base)
    assert status == 0, output
    assert kind in output
    assert (base / "1" / "saved_model.pb").exists()


def test_an_untrained_model_becomes_a_version(tmp_path: Path, config: Path) -> None:
    base = tmp_path / "models" / "small"
    status, output = _run("--config", config, "--export-to", base, command="init")
    assert status == 0, output
    assert (base / "1" / "saved_model.pb").exists()
    status, output = _run("--config", config, "--export-to", base, command="init")
    assert status == 2
    assert "this version exists already" in output


def test_errors_are_one_line_and_status_2(tmp_path: Path, config: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"timestamp_ms": 1}\n', encoding="utf-8")
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    for log, message in (
        (bad, "bad.jsonl:1: request"),
        (empty, "the log is empty"),
        (tmp_path / "no", "cannot be read"),
    ):
        status, output = _run("--log", log, "--config", config)
        assert status == 2
        assert message in output
        assert len(output.strip().splitlines()) == 1


@pytest.mark.parametrize("sources", [[], ["--log", "a.jsonl", "--prepared", "b"]])
def test_there_is_one_source_of_examples(config: Path, sources: list[str]) -> None:
    status, output = _run("--config", config, *sources)
    assert status == 2
    assert "--log or --prepared: exactly one is needed" in output


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("train", ["--log", "a.jsonl", "--judge-by", "test"], "--judge-by: has no meaning with --log"),
        ("train", ["--prepared", "b", "--holdout", "0.2"], "--holdout: has no meaning with --prepared"),
        ("train", ["--prepared", "b", "--records", "c"], "--records: has no meaning with --prepared"),
        (
            "launch",
            ["--records", "c", "--negative-sampling-rate", "0.5"],
            "--negative-sampling-rate: has no meaning with",
        ),
        ("launch", ["--prepared", "b", "--records", "c"], "--records: has no meaning with --prepared"),
        ("train", ["--log", "a.jsonl", "--mode", "sync"], "--mode: has no meaning without TF_CONFIG"),
        ("train", ["--log", "a.jsonl", "--backup", "0"], "--backup: has no meaning without TF_CONFIG"),
        (
            "train",
            ["--prepared", "b", "--judge-by", "none", "--baseline"],
            "--baseline: there are no evaluation examples with --judge-by none",
        ),
        (
            "train",
            ["--log", "a.jsonl", "--holdout", "0", "--predictions", "p"],
            "--predictions: there are no evaluation examples with --holdout 0",
        ),
    ],
)
def test_an_option_that_would_be_ignored_is_rejected(
    config: Path, command: str, options: list[str], message: str
) -> None:
    status, output = _run("--config", config, *options, command=command)
    assert (status, message in output) == (2, True), output


@pytest.mark.parametrize(
    "option",
    [
        *(("--log", "a"), ("--prepared", "a"), ("--judge-by", "test"), ("--holdout", "0.2"), ("--baseline",)),
        *(("--predictions", "a"), ("--negative-sampling-rate", "0.5")),
    ],
)
def test_an_option_that_a_process_of_a_cluster_would_ignore_is_rejected(
    config: Path, option: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = '{"cluster": {"ps": ["a:1"], "chief": ["b:1"]}, "task": {"type": "chief", "index": 0}}'
    monkeypatch.setenv("TF_CONFIG", cluster)
    status, output = _run("--config", config, "--records", "r", "--checkpoints", "c", *option)
    assert (status, output) == (2, f"error: {option[0]}: has no meaning with TF_CONFIG\n")


def test_a_model_is_not_evaluated_on_examples_that_its_final_fit_learns(config: Path) -> None:
    with config.open("a", encoding="utf-8") as file:
        file.write("early_stopping: {final_fit: true}\n")
    status, output = _run("--prepared", "absent", "--config", config)
    assert (status, output.count("\n")) == (2, 1), output
    assert "--judge-by validation: early_stopping.final_fit learns these rows; use test, or none" in output
    status, output = _run("--prepared", "absent", "--config", config, command="launch")
    assert (status, "final_fit: only `train` in a single process" in output) == (2, True), output


@pytest.mark.slow
def test_a_run_begins_with_the_model_of_another_one(tmp_path: Path, config: Path) -> None:
    few, run = click_log(tmp_path / "few.jsonl", 100), tmp_path / "run"
    status, output = _run("--log", few, "--config", config, "--checkpoints", run, "--export-to", tmp_path / "ctr")
    assert status == 0, output
    newer = ("--log", click_log(tmp_path / "newer.jsonl", 120, seed=2), "--config", config)
    status, output = _run(*newer, "--checkpoints", run)
    assert status == 2, output
    assert f"use another folder, with `--warm-start {run}` to begin with this run's model" in output
    for option, start in (("--warm-start", run), ("--from", tmp_path / "ctr" / "1")):
        status, output = _run(*newer, "--checkpoints", tmp_path / option, option, start)
        assert status == 0, output
        assert f"begins with the weights of {start}; kept: user, tags" in output
        status, output = _run(*newer, "--checkpoints", tmp_path / option, option, start)
        assert "no steps: an earlier run has made all of them" in output


@pytest.mark.slow
def test_a_final_fit_becomes_a_version(tmp_path: Path, config: Path, log: Path) -> None:
    with config.open("a", encoding="utf-8") as file:
        file.write("epochs: 3\nearly_stopping: {patience: 1, final_fit: true}\n")
    arguments = ("--log", log, "--config", config, "--checkpoints", tmp_path / "run")
    status, output = _run(*arguments, "--export-to", tmp_path / "ctr")
    assert status == 0, output
    assert "final fit on training and validation examples: " in output
    assert (tmp_path / "ctr" / "1" / "saved_model.pb").exists()
    status, output = _run(*arguments)
    assert status == 0, output
    assert " ".join(output.split()).count("no steps: an earlier run has made all of them") == 2


@pytest.mark.parametrize("command", ["train", "launch"])
def test_a_run_without_a_usable_result_is_rejected_before_training(tmp_path: Path, config: Path, command: str) -> None:
    line = '{"timestamp_ms": 1, "request": {}, "candidates": [{"ad_id": "a"}], "clicked": [%d]}\n'
    log, base = tmp_path / "log.jsonl", tmp_path / "ctr"
    log.write_text((line % 0 + line % 1) * 9 + line % 0 * 2, encoding="utf-8")
    (base / "3").mkdir(parents=True)
    for options, message in (
        (("--export-to", base), "0 clicks among 2 evaluation examples: both classes are needed"),
        (("--export-to", base, "--version", "3"), "ctr/3: this version exists already"),
        (("--holdout", "0.2", "--negative-sampling-rate", "0"), "negative_sampling_rate 0: must be in (0, 1]"),
    ):
        status, output = _run("--log", log, "--config", config, *options, command=command)
        assert (status, message in output) == (2, True), output
        assert len(output.strip().splitlines()) == 1


def test_a_log_of_one_class_is_rejected(tmp_path: Path, config: Path) -> None:
    line = '{"timestamp_ms": 1, "request": {}, "candidates": [{"ad_id": "a"}], "clicked": [0]}\n'
    log = tmp_path / "log.jsonl"
    log.write_text(line * 20, encoding="utf-8")
    status, output = _run("--log", log, "--config", config)
    assert status == 2
    assert "0 clicks among 18 examples" in output


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_a_calibrated_version_reports_both_figures(tmp_path: Path, config: Path, log: Path, kind: str) -> None:
    with config.open("a", encoding="utf-8") as file:
        file.write(f"export: {{calibration: {kind}}}\n")
    base = tmp_path / "models" / "small"
    status, output = _run("--log", log, "--config", config, "--export-to", base)
    shown = " ".join(output.split())
    assert status == 0, output
    # A tenth of the 5,400 training lines are validation examples.
    assert "4,860 examples" in shown
    assert f"calibration {kind}, fitted on 540 validation examples" in shown
    assert "wide_deep, calibrated" in shown
    assert f"calibrated ({kind})" in shown
    assert (base / "1" / "assets.extra" / "calibration.json").exists()
    status, output = _run(base / "1", "--log", log, command="evaluate")
    assert status == 0, output
    assert "uncalibrated log loss" in " ".join(output.split())


def test_records_without_validation_examples_cannot_be_calibrated(tmp_path: Path, config: Path) -> None:
    few, records = click_log(tmp_path / "few.jsonl", 60), tmp_path / "records"
    status, _ = _run("--log", few, "--config", config, "--records", records)
    assert status == 0
    with config.open("a", encoding="utf-8") as file:
        file.write("export: {calibration: platt}\n")
    status, output = _run("--records", records, "--config", config, command="launch")
    assert status == 2
    (line,) = output.strip().splitlines()
    assert line == f"error: {records}: export.calibration needs validation examples, and there are none"


def test_the_coverage_of_records_is_kept_and_shown(tmp_path: Path, config: Path) -> None:
    text = (tmp_path / "spec.yaml").read_text(encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(text.replace("user.age", "user.agee"), encoding="utf-8")
    records, base = tmp_path / "records", tmp_path / "ctr"
    few = click_log(tmp_path / "few.jsonl", 60)
    paths = {"--log": few, "--config": config, "--records": records, "--export-to": base}
    arguments = [str(part) for option in paths.items() for part in option]
    trained = CliRunner().invoke(app, ["train", *arguments, "--json"])
    assert trained.exit_code == 0, trained.output
    warning = "feature 'age' has no value in 54 requests: the data does not have its path user.agee;"
    assert f"{warning} the most similar path is user.age" in trained.stderr
    outcome = orjson.loads(trained.stdout)
    assert (outcome["examples"], outcome["coverage"]["age"], outcome["exported"]) == (162, 0, str(base / "1"))
    assert set(outcome["quality"]["wide_deep"]) == {"examples", "positives", "auc", "log_loss", "calibration"}
    status, output = _run(records, "--json", command="coverage")
    found = orjson.loads(output)
    assert (status, found["tags"]["present"], found["tags"]["unit"]) == (0, 40, "requests")
    assert (found["ad"]["seen"], found["ad"]["share"], found["ad"]["unit"]) == (162, 1.0, "rows")
    lineage = read_lineage(base / "1")
    assert lineage is not None
    assert lineage.data is not None
    assert lineage.data.coverage["age"] == 0
    status, output = _run(base / "1", command="show")
    assert "features without a value" in output
    for folder in (tmp_path, base / "1"):
        status, output = _run(folder, command="coverage")
        assert (status, len(output.strip().splitlines())) == (2, 1)
