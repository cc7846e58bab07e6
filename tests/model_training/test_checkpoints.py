"""A continued run gives the same result as an uninterrupted run."""

import errno
import fcntl
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from model_training.checkpoints import Checkpoints, Position, claimed, save_model
from model_training.config.model import DeepFmConfig
from model_training.config.training import DistributedConfig, EarlyStoppingConfig, ExportConfig, TrainingConfig
from model_training.data.prepared import validation_records
from model_training.data.training_data import TrainingData, split_log
from model_training.early_stopping.best_model import BestModel
from model_training.early_stopping.standing import Standing
from model_training.errors import ConfigError, DataError
from model_training.identity import RunIdentity, read_identity
from model_training.lineage.data import records_data
from model_training.training.loop import Progress
from model_training.training.single_process import train_records
from streamer.features import FeatureSpec
from tests.model_training.conftest import claim

pytestmark = pytest.mark.tensorflow


class _KilledError(Exception):
    """Ends a run in the middle in these tests."""


def _save(run: Path) -> None:
    """A checkpoint of something."""
    save_model(tf.Module(), str(run / "ckpt-1"))
    tf.compat.v1.train.update_checkpoint_state(str(run), str(run / "ckpt-1"))


@pytest.fixture
def config() -> TrainingConfig:
    return TrainingConfig.model_validate(
        {
            "spec": "unused",
            "model": {"kind": "deepfm", "hidden_units": [8]},
            "batch_size": 50,
            "epochs": 2,
            "shuffle_buffer": 1000,
            "clip_norm": 0.5,
            "deep": {"optimizer": "adam", "dropout": 0.2, "schedule": {"warmup_share": 0.2, "decay": "cosine"}},
            # After each step.
            "distributed": {"checkpoint_seconds": 1e-9},
        }
    )


@pytest.fixture
def data(tmp_path: Path, log: Path, spec: FeatureSpec) -> TrainingData:
    """720 examples, so an epoch does not end with a full batch."""
    return split_log(log, tmp_path / "records", spec, holdout=0.88)


def test_a_continued_run_makes_the_model_of_an_uninterrupted_run(
    tmp_path: Path, config: TrainingConfig, data: TrainingData, spec: FeatureSpec
) -> None:
    def killed(progress: Progress) -> None:
        raise _KilledError

    run = tmp_path / "run"
    with pytest.raises(_KilledError):
        train_records(data.directory, data.manifest, spec, config, killed, checkpoints=run)
    # Step 20 is reported before its checkpoint is written.
    assert Checkpoints(run, every_seconds=60, now=0).position == Position(steps=19, examples=950)
    reported: list[Progress] = []
    resumed, result = train_records(data.directory, data.manifest, spec, config, reported.append, checkpoints=run)
    assert (result.steps, result.examples) == (10, 490)
    assert reported[-1].steps == 29
    whole, _ = train_records(data.directory, data.manifest, spec, config)
    for ours, theirs in zip(resumed.trainable_variables, whole.trainable_variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5, err_msg=ours.name)
    # No step is left.
    again, nothing = train_records(data.directory, data.manifest, spec, config, checkpoints=run)
    assert nothing.steps == 0
    np.testing.assert_array_equal(again.trainable_variables[0].numpy(), resumed.trainable_variables[0].numpy())


@pytest.mark.slow
def test_the_losses_are_beside_the_checkpoints_for_tensorboard(
    tmp_path: Path, config: TrainingConfig, data: TrainingData, spec: FeatureSpec
) -> None:
    train_records(data.directory, data.manifest, spec, config, checkpoints=tmp_path / "run")
    reported = [
        (event.step, value.tag)
        for events in (tmp_path / "run").glob("events.out.tfevents.*")
        for event in tf.compat.v1.train.summary_iterator(str(events))
        for value in event.summary.value
    ]
    assert reported == [(20, "loss"), (29, "loss")]


def test_a_folder_of_another_run_is_rejected_and_stays_as_it_is(
    tmp_path: Path, config: TrainingConfig, data: TrainingData, spec: FeatureSpec
) -> None:
    run = tmp_path / "run"
    claim(run, RunIdentity.of(config, spec, data.directory, data.manifest))
    _save(run)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    changes: list[tuple[dict[str, object], str]] = [
        ({"epochs": 1}, "config.epochs 2 instead of 1"),
        ({"batch_size": 40}, "config.batch_size 50 instead of 40"),
        (
            {"deep": config.deep.model_copy(update={"learning_rate": 0.5})},
            r"config.deep.learning_rate 0\.001 instead of 0\.5",
        ),
        ({"model": DeepFmConfig(hidden_units=(9,))}, r"config.model.hidden_units \[8\] instead of \[9\]"),
    ]
    for change, message in changes:
        other = config.model_copy(update=change)
        with pytest.raises(ConfigError, match=rf"{message}; use another folder, with `--warm-start {run}`"):
            train_records(data.directory, data.manifest, spec, other, checkpoints=run)
    shards = tuple(replace(shard, sha256="0" * 64) for shard in data.manifest.shards)
    with pytest.raises(ConfigError, match=r'data\.train\.sha256 "\w+" instead of "\w+"; use another folder'):
        train_records(data.directory, replace(data.manifest, shards=shards), spec, config, checkpoints=run)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_run_that_ended_before_its_first_checkpoint_leaves_its_folder_to_another(
    tmp_path: Path, config: TrainingConfig, data: TrainingData, spec: FeatureSpec
) -> None:
    def identity(epochs: int) -> RunIdentity:
        return RunIdentity.of(config.model_copy(update={"epochs": epochs}), spec, data.directory, data.manifest)

    run = tmp_path / "run"
    claim(run, identity(2))
    assert claim(run, identity(3)) is None
    assert read_identity(run) == identity(3).content
    # A best model is a result, from which a warm start can begin.
    BestModel(run).write(Standing(0.7, 50, 50), lambda _: None)
    with pytest.raises(ConfigError, match=r"config\.epochs 3 instead of 4"):
        claim(run, identity(4))
    assert read_identity(run) == identity(3).content


def test_a_second_run_cannot_take_the_folder_of_a_run_in_progress(
    tmp_path: Path, config: TrainingConfig, data: TrainingData, spec: FeatureSpec
) -> None:
    """Before the first checkpoint, too: it would otherwise mix its checkpoints with those of the first run."""
    run, other = tmp_path / "run", config.model_copy(update={"epochs": 3})
    own, another = (RunIdentity.of(each, spec, data.directory, data.manifest) for each in (config, other))
    with claimed(run, own):
        for second in (own, another):
            with pytest.raises(ConfigError, match="another process trains in this folder: use another folder"):
                claim(run, second)
        _save(run)
    assert read_identity(run) == own.content
    # The record of a run that has stored something never changes, also where a key is not compared.
    record = json.dumps({**own.content, "negative_sampling_rate": 0.5}).encode()
    (run / "run.json").write_bytes(record)
    assert claim(run, own) == str(run / "ckpt-1")
    assert (run / "run.json").read_bytes() == record


@pytest.mark.slow
def test_training_holds_its_folder(
    tmp_path: Path, config: TrainingConfig, data: TrainingData, spec: FeatureSpec
) -> None:
    run, reported = tmp_path / "run", []
    seldom = config.model_copy(update={"distributed": DistributedConfig()})

    def second(_: Progress) -> None:
        reported.append(tf.train.latest_checkpoint(str(run)))
        with pytest.raises(ConfigError, match="another process trains in this folder"):
            train_records(data.directory, data.manifest, spec, seldom, checkpoints=run)

    train_records(data.directory, data.manifest, spec, seldom, second, checkpoints=run)
    assert reported[0] is None
    assert train_records(data.directory, data.manifest, spec, seldom, checkpoints=run)[1].steps == 0


def test_without_locks_a_folder_stays_that_of_its_first_run(
    tmp_path: Path, config: TrainingConfig, data: TrainingData, spec: FeatureSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    identity = RunIdentity.of(config, spec, data.directory, data.manifest)
    other = RunIdentity.of(config.model_copy(update={"epochs": 3}), spec, data.directory, data.manifest)
    claim(tmp_path / "run", identity)
    with pytest.raises(ConfigError, match=r"config\.epochs 2 instead of 3"):
        claim(tmp_path / "run", other)
    assert claim(tmp_path / "run", identity) is None


def test_settings_without_influence_on_the_course_may_differ(
    tmp_path: Path, config: TrainingConfig, data: TrainingData, spec: FeatureSpec
) -> None:
    def identity(**change: object) -> RunIdentity:
        other = config.model_copy(update=change)
        return RunIdentity.of(other, spec, data.directory, data.manifest)

    claim(tmp_path / "run", identity())
    harmless = {"spec": Path("other"), "distributed": DistributedConfig(), "max_lost_share": 0.5}
    assert claim(tmp_path / "run", identity(**harmless, export=ExportConfig(compute="bfloat16"))) is None


def test_a_validation_shard_that_was_lost_before_a_restart_makes_another_run(
    tmp_path: Path, config: TrainingConfig, log: Path, spec: FeatureSpec
) -> None:
    data = split_log(log, tmp_path / "records", spec, holdout=0.9, validation_share=0.5)
    config = config.model_copy(update={"early_stopping": EarlyStoppingConfig(), "max_lost_share": 0.5})
    run = tmp_path / "run"
    claim(run, RunIdentity.of(config, spec, data.directory, data.manifest))
    _save(run)
    folder, later = validation_records(data.directory)
    (folder / later.shards[0].file).unlink()
    with pytest.raises(ConfigError, match=r"data\.validation\.examples 300 instead of 225"):
        claim(run, RunIdentity.of(config, spec, data.directory, data.manifest))
    assert records_data(data.directory, data.manifest, config).splits["validation"].examples == 225


def test_a_folder_of_an_older_version_is_recognised(
    tmp_path: Path, config: TrainingConfig, data: TrainingData, spec: FeatureSpec
) -> None:
    old = {"spec": spec.hash, "model": config.model.model_dump(mode="json"), "table_shards": None}
    (tmp_path / "run.json").write_text(json.dumps(old), encoding="utf-8")
    with pytest.raises(ConfigError, match="another version of this program, which recorded neither data nor schedule"):
        train_records(data.directory, data.manifest, spec, config, checkpoints=tmp_path)
    assert json.loads((tmp_path / "run.json").read_bytes()) == old


def test_checkpoints_of_an_unknown_run_are_rejected(
    tmp_path: Path, config: TrainingConfig, data: TrainingData, spec: FeatureSpec
) -> None:
    tf.train.CheckpointManager(tf.train.Checkpoint(step=tf.Variable(1)), str(tmp_path), max_to_keep=1).save()
    with pytest.raises(ConfigError, match=r"no run\.json that says of which run"):
        train_records(data.directory, data.manifest, spec, config, checkpoints=tmp_path)
    assert not (tmp_path / "run.json").exists()


def test_a_damaged_checkpoint_is_named(
    tmp_path: Path, config: TrainingConfig, data: TrainingData, spec: FeatureSpec
) -> None:
    run = tmp_path / "run"
    train_records(data.directory, data.manifest, spec, config, checkpoints=run)
    for file in run.glob("ckpt-29.data*"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match=r"ckpt-29: ") as caught:
        train_records(data.directory, data.manifest, spec, config, checkpoints=run)
    assert "\n" not in str(caught.value)


def test_records_that_differ_from_the_manifest_are_named(
    config: TrainingConfig, data: TrainingData, spec: FeatureSpec
) -> None:
    wider = replace(data.manifest, row_ids=data.manifest.row_ids + 1)
    shard = data.directory / data.manifest.shards[0].file
    shard_bytes = bytearray(shard.read_bytes())
    shard_bytes[len(shard_bytes) // 2] ^= 1
    with pytest.raises(DataError, match=r"the records cannot be read: .*requested shape") as caught:
        train_records(data.directory, wider, spec, config)
    assert "\n" not in str(caught.value)
    # Damaged after the checksums were compared.
    shard.write_bytes(shard_bytes)
    with pytest.raises(DataError, match="the records cannot be read: corrupted record"):
        train_records(data.directory, data.manifest, spec, config)
