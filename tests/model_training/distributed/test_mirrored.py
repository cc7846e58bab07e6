"""Synchronous training without parameter servers: whole runs, each role in its own process."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from model_training.config.training import TrainingConfig
from model_training.data.manifest import read_manifest
from model_training.data.training_data import TrainingData, split_log
from model_training.distributed.cluster import Task
from model_training.distributed.launcher import local_cluster
from model_training.distributed.result import trained_model
from model_training.early_stopping.best_model import BestModel
from model_training.early_stopping.validation import read_validation
from model_training.models.model import Model
from model_training.training.prediction import predictor
from model_training.training.single_process import train_records
from streamer.features import FeatureSpec
from tests.model_training.conftest import click_log
from tests.model_training.launched import WAIT_SECONDS, launched, pids, until, write_config

pytestmark = pytest.mark.tensorflow

_ORDERED = {
    "model": {"kind": "wide_deep", "hidden_units": [8]},
    "batch_size": 30,
    "epochs": 2,
    "shuffle_buffer": 0,
    "distributed": {"mode": "mirrored"},
}


@pytest.fixture
def data(tmp_path: Path, log: Path, spec: FeatureSpec) -> TrainingData:
    """1,200 examples, a multiple of the batch size 60."""
    return split_log(log, tmp_path / "records", spec, holdout=0.8)


def _assert_equal(one: Model, other: Model) -> None:
    for ours, theirs in zip(one.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5, err_msg=ours.name)


def _role(tf_config: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "model_training", "train", *map(str, arguments)],
        env={**os.environ, "TF_CONFIG": tf_config},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )


@pytest.mark.slow
def test_a_cluster_of_one_process_trains_like_a_single_process(
    tmp_path: Path, data: TrainingData, spec: FeatureSpec
) -> None:
    path, run = write_config(tmp_path, **_ORDERED), tmp_path / "run"
    ended = _role(
        local_cluster(0, 1).tf_config(Task("chief", 0)),
        *("--config", path, "--records", data.directory, "--checkpoints", run, "--export-to", tmp_path / "ctr"),
    )
    assert ended.returncode == 0, ended.stdout
    assert "Traceback" not in ended.stdout
    assert "step 80/80" in ended.stdout
    assert (tmp_path / "ctr" / "1" / "saved_model.pb").exists()
    config = TrainingConfig.from_yaml(path)
    single, _ = train_records(data.directory, data.manifest, spec, config)
    _assert_equal(trained_model(run, config, spec), single)


@pytest.mark.slow
def test_two_processes_make_the_model_of_one_with_larger_batches(
    tmp_path: Path, data: TrainingData, spec: FeatureSpec
) -> None:
    schedule = {"warmup_share": 0.2, "decay": "linear"}
    settings = {"clip_norm": 0.1, "deep": {"optimizer": "adam", "l2": 0.01, "schedule": schedule}}
    path, run = write_config(tmp_path, **_ORDERED, **settings), tmp_path / "run"
    with launched(*("--config", path, "--records", data.directory, "--checkpoints", run, "--workers", "2")) as process:
        output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, output
    assert "40 steps of 2 × 30 examples" in " ".join(output.split())
    assert "Traceback" not in output
    config = TrainingConfig.from_yaml(path)
    double = config.model_copy(update={"batch_size": 60})
    single, _ = train_records(data.directory, data.manifest, spec, double)
    _assert_equal(trained_model(run, config, spec), single)
    (events,) = run.glob("events.out.tfevents.*")
    reported = [
        value.tag for event in tf.compat.v1.train.summary_iterator(str(events)) for value in event.summary.value
    ]
    assert "loss" in reported


def _auc(output: str) -> float:
    found = re.search(r"wide_deep\s*│\s*600\s*│\s*\d+\s*│\s*(0\.\d+)", output)
    assert found, output
    return float(found[1])


@pytest.mark.slow
def test_two_processes_are_as_good_as_one(tmp_path: Path, log: Path) -> None:
    settings = {"model": _ORDERED["model"], "shuffle_buffer": 5000, "epochs": 4}
    path = write_config(tmp_path, **settings, batch_size=32)
    base = tmp_path / "ctr"
    with launched(
        *("--config", path, "--log", log, "--mode", "mirrored", "--workers", "2", "--export-to", base)
    ) as process:
        output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, output
    assert {"serving_default", "score", "feature_spec"} <= set(tf.saved_model.load(str(base / "1")).signatures)
    ended = _role("", "--config", write_config(tmp_path, **settings, batch_size=64), "--log", log)
    assert ended.returncode == 0, ended.stdout
    # On 600 examples the standard error of a difference between two such models is below 0.01.
    assert _auc(output) == pytest.approx(_auc(ended.stdout), abs=0.03)
    assert _auc(output) > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("role", ["worker", "chief"])
def test_a_run_survives_the_death_of_any_process(tmp_path: Path, role: str) -> None:
    settings = _ORDERED | {"epochs": 200, "distributed": {"mode": "mirrored", "checkpoint_seconds": 1}}
    log, run = click_log(tmp_path / "log.jsonl", 200), tmp_path / "run"
    said: list[str] = []
    with launched(
        *("--config", write_config(tmp_path, **settings), "--log", log, "--workers", "2", "--checkpoints", run)
    ) as process:
        until(process, r"chief step ([\d,]+)/", said)
        until(process, r"chief step ([\d,]+)/", said)
        os.kill(pids(process.pid, role)[-1], signal.SIGKILL)
        until(process, "killed by SIGKILL; all processes are restarted from the last checkpoint", said)
        assert int(until(process, r"chief continues from \S+-(\d+)$", said)[1]) > 0
        output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, "".join(said) + output
    assert tf.train.latest_checkpoint(str(run)).endswith(f"-{200 * 540 // 60}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode",
    [
        ("--mode", "mirrored"),
        ("--mode", "sync"),
        ("--mode", "sync", "--backup", "1"),
        ("--mode", "async"),
    ],
    ids=["mirrored", "sync", "backup", "async"],
)
def test_several_processes_stop_early_with_the_best_model(
    tmp_path: Path, log: Path, spec: FeatureSpec, mode: tuple[str, ...]
) -> None:
    has_backup = "--backup" in mode
    goes_on = has_backup or "async" in mode
    path = write_config(
        tmp_path,
        model={"kind": "wide_deep", "hidden_units": [16]},
        batch_size=32,
        epochs=60,
        deep={"learning_rate": 0.2, "embedding_learning_rate": 0.3},
        # With a backup worker, so often that other processes reach the next evaluation during one.
        early_stopping={"patience": 2, "validation_share": 0.5, "every_examples": 64 if has_backup else 1200},
    )
    run, records = tmp_path / "run", tmp_path / "records"
    with launched(
        *("--config", path, "--log", log, "--holdout", "0.6", "--records", records),
        *("--checkpoints", run, "--workers", "3" if has_backup else "2"),
        *mode,
    ) as process:
        output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    standing = BestModel(run).read()
    assert standing is not None
    assert standing.evaluated < 60 * 1200
    # Processes that do not wait for the chief make steps after the evaluation that ends the run. The last model is
    # evaluated too, and may be the best.
    assert standing.waited >= 2 or goes_on
    config = TrainingConfig.from_yaml(path).with_distributed({"mode": mode[1]})
    validation = read_validation(records, read_manifest(records), spec, config)
    assert validation is not None
    value = validation.value(predictor(trained_model(run, config, spec), spec), "auc")
    # They also make steps between an evaluation and the checkpoint.
    assert value == pytest.approx(standing.value, abs=0.05 if goes_on else 1e-4)
