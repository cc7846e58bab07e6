"""A final fit learns the training and validation examples, as long as early stopping found."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from model_training.checkpoints import Checkpoints
from model_training.config.training import TrainingConfig
from model_training.data.examples import Examples, Stream, joined
from model_training.data.manifest import write_manifest
from model_training.data.prepared import Prepared, SplitManifest, validation_records
from model_training.data.training_data import TrainingData, read_examples, split_log
from model_training.early_stopping.best_model import BestModel
from model_training.early_stopping.standing import Standing
from model_training.models.model import Model
from model_training.training.final_fit import all_records, final_fit, thinned
from model_training.training.loop import Progress
from model_training.training.single_process import train_records
from model_training.training.source import Source
from streamer.features import FeatureSpec
from tests.model_training.conftest import click_log

pytestmark = pytest.mark.tensorflow

_FOUND = Standing(0.7, examples=480, evaluated=640)


@pytest.fixture
def config() -> TrainingConfig:
    return TrainingConfig.model_validate(
        {
            "spec": "unused",
            "model": "logistic_regression",
            "batch_size": 16,
            "epochs": 3,
            "shuffle_buffer": 1000,
            "early_stopping": {"patience": 1, "validation_share": 0.25, "final_fit": True},
        }
    )


@pytest.fixture
def data(tmp_path: Path, spec: FeatureSpec) -> TrainingData:
    """160 training examples, 53 validation examples, and a hold-out of 27."""
    log = click_log(tmp_path / "log.jsonl", 80)
    return split_log(log, tmp_path / "records", spec, holdout=0.1125, validation_share=0.25)


def _killed(progress: Progress) -> None:
    raise InterruptedError


def _assert_equal(one: Model, other: Model) -> None:
    for ours, theirs in zip(one.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-6, err_msg=ours.name)


def test_the_newest_examples_are_learnt_as_long_as_early_stopping_found(
    tmp_path: Path, config: TrainingConfig, data: TrainingData, spec: FeatureSpec
) -> None:
    run = tmp_path / "run"
    folder, later = validation_records(data.directory)
    whole = all_records(data.directory, data.manifest, spec, config, tmp_path / "scratch")
    rows = read_examples(data.directory, whole)
    expected = [*data.training().ids.tolist(), *read_examples(folder, later).ids.tolist()]
    assert sorted(rows.ids.tolist()) == sorted(expected)
    assert (whole.examples, whole.positives) == (len(rows), int(rows.labels.sum()))
    model, result = final_fit(data.directory, data.manifest, spec, config, found=_FOUND, checkpoints=run)
    # As many epochs: 480 / the training examples.
    wanted = round(480 * whole.examples / data.manifest.examples)
    assert (result.steps, result.best) == (-(-wanted // 16), _FOUND)
    recorded = json.loads((run / "final" / "run.json").read_bytes())
    assert recorded["final_fit"] == {"metric": "auc", "value": 0.7, "examples": 480}
    assert recorded["data"]["validation"]["examples"] == later.examples
    # Finished: started again, it makes no step.
    again, nothing = final_fit(data.directory, data.manifest, spec, config, found=_FOUND, checkpoints=run)
    assert nothing.steps == 0
    _assert_equal(again, model)
    # A warm start takes a final fit that has ended, but the best model of one that has not.
    last = f"ckpt-{result.steps}"
    (run / "run.json").write_bytes((run / "final" / "run.json").read_bytes())
    BestModel(run).write(Standing(0.7, 480, 480), lambda path: Path(f"{path}.index").write_bytes(b""))
    assert Source.find(run).checkpoint == str(run / "final" / last)
    for file in (run / "final").glob("ckpt-*"):
        file.rename(file.with_name(file.name.replace(last, "ckpt-9")))
    tf.compat.v1.train.update_checkpoint_state(str(run / "final"), str(run / "final" / "ckpt-9"))
    assert Source.find(run).checkpoint == BestModel(run).checkpoint(_FOUND)


def test_sampled_training_records_get_the_same_share_of_validation_non_clicks(
    tmp_path: Path, config: TrainingConfig, data: TrainingData, spec: FeatureSpec
) -> None:
    """`prepare` keeps all rows of the validation split: learnt as they are, they would change what a score means."""
    _, later = validation_records(data.directory)
    shards = tuple(replace(shard, file=f"validation/{shard.file}") for shard in later.shards)
    sampled = replace(data.manifest, negative_sampling_rate=0.25)
    splits = {"train": SplitManifest(sampled, 0, 1), "validation": SplitManifest(replace(later, shards=shards), 2, 3)}
    write_manifest(data.directory, Prepared({}, 0, {}, 0, {}, 2, None, splits))  # type: ignore[arg-type]
    whole = all_records(data.directory, sampled, spec, config, tmp_path / "scratch")
    assert whole.positives == sampled.positives + later.positives
    kept = (whole.examples - sampled.examples - later.positives) / (later.examples - later.positives)
    assert 0.05 < kept < 0.5
    assert len(read_examples(data.directory, whole)) == whole.examples


def test_validation_records_are_thinned_block_by_block() -> None:
    rng, begun = np.random.default_rng(2), list[int]()
    labels = (rng.random(90) < 0.2).astype(np.int8)
    rows = Examples(rng.integers(0, 9, (90, 2), np.int32), rng.random((90, 1), np.float32), labels)

    def of_blocks(size: int) -> Stream:
        def blocks() -> Iterator[Examples]:
            for first in range(0, 90, size):
                begun.append(first)
                yield rows[first : first + size]

        return Stream(90, int(labels.sum()), blocks)

    parts = thinned(of_blocks(30), 0.5, seed=1)
    first = next(parts)
    assert begun == [0]
    several, (whole,) = joined([first, *parts], 2, 1), thinned(of_blocks(90), 0.5, seed=1)
    np.testing.assert_array_equal(several.floats, whole.floats)
    assert int(labels.sum()) == int(whole.labels.sum()) < len(whole) < 90


@pytest.mark.slow
def test_a_run_killed_in_any_phase_ends_as_an_unbroken_one(
    tmp_path: Path, config: TrainingConfig, data: TrainingData, spec: FeatureSpec
) -> None:
    rarely = config.model_copy(update={"batch_size": 4})  # an epoch has more than 20 steps
    often = rarely.with_distributed({"checkpoint_seconds": 1e-9})

    def run(folder: Path, killed_in: str = "") -> Model:
        report, config = _killed if killed_in == "search" else None, often if killed_in else rarely
        _, found = train_records(data.directory, data.manifest, spec, config, report, checkpoints=folder)
        assert found.best is not None

        model, _ = final_fit(
            data.directory,
            data.manifest,
            spec,
            config,
            found=found.best,
            checkpoints=folder,
            progress=lambda _: nullcontext(_killed if killed_in == "final" else None),
        )
        return model

    broken = tmp_path / "broken"
    for phase, folder in (("search", broken), ("final", broken / "final")):
        with pytest.raises(InterruptedError):
            run(broken, phase)
        # Step 20 is reported before its checkpoint is written.
        assert Checkpoints(folder, every_seconds=60, now=0).position.steps == 19
    _assert_equal(run(broken), run(tmp_path / "unbroken"))
