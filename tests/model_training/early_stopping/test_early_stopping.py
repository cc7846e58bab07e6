"""Early stopping: the rule alone, and whole runs."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from model_training.checkpoints import Checkpoints
from model_training.config.training import EarlyStoppingConfig, TrainingConfig
from model_training.data.click_log import encode_log, read_log
from model_training.data.examples import Examples, Stream
from model_training.data.training_data import TrainingData, split_log
from model_training.early_stopping.best_model import BestModel
from model_training.early_stopping.standing import Standing, is_due, updated_standing
from model_training.early_stopping.stopping import EarlyStopping
from model_training.early_stopping.validation import Validation, read_validation
from model_training.errors import DataError
from model_training.models.build import build_model
from model_training.training.loop import run_steps
from model_training.training.prediction import predictor
from model_training.training.single_process import train_records
from streamer.features import Encoder, FeatureSpec, Layout
from streamer.types import F32, I32

pytestmark = pytest.mark.tensorflow


def _judged(values: list[float], settings: EarlyStoppingConfig) -> list[Standing]:
    standings: list[Standing] = []
    for i, value in enumerate(values, 1):
        standings.append(updated_standing(standings[-1] if standings else None, value, 100 * i, settings))
    return standings


def test_patience_counts_evaluations_since_the_best() -> None:
    settings = EarlyStoppingConfig(patience=2)
    standings = _judged([0.6, 0.7, 0.69, 0.71, 0.7, 0.71], settings)
    assert [s.waited for s in standings] == [0, 0, 1, 0, 1, 2]
    assert [s.ends(settings) for s in standings] == [False] * 5 + [True]
    assert (standings[-1].value, standings[-1].examples, standings[-1].evaluated) == (0.71, 400, 600)


def test_a_lower_loss_is_better_and_a_small_change_is_no_improvement() -> None:
    settings = EarlyStoppingConfig(metric="log_loss", min_improvement=0.01)
    assert [s.waited for s in _judged([0.5, 0.495, 0.48, 0.49], settings)] == [0, 1, 0, 1]


def test_a_repeated_evaluation_counts_once() -> None:
    settings = EarlyStoppingConfig()
    (*_, last) = _judged([0.7, 0.6], settings)
    assert updated_standing(last, 0.6, 200, settings) == last
    assert updated_standing(last, 0.9, 100, settings) == last


def test_a_restart_from_an_older_checkpoint_keeps_the_best_model(tmp_path: Path) -> None:
    """A repeated evaluation of an earlier step must not replace the best model, not even partly."""
    settings, best = EarlyStoppingConfig(), BestModel(tmp_path)
    saved: list[str] = []
    best.write(updated_standing(None, 0.7, 300, settings), saved.append)
    for examples in (200, 300):
        best.write(updated_standing(best.read(), 0.6, examples, settings), saved.append)
    assert saved == [best.checkpoint(Standing(0.7, 300, 300))]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(1, 5))
def test_the_best_is_the_first_of_the_best_values(values: list[float], patience: int) -> None:
    last = _judged(values, EarlyStoppingConfig(patience=patience))[-1]
    assert last.value == max(values)
    assert last.examples == 100 * (values.index(max(values)) + 1)
    assert last.waited == len(values) - last.examples // 100


@given(st.lists(st.integers(1, 300), max_size=30), st.integers(1, 500))
def test_a_step_makes_one_evaluation_due_at_most(steps: list[int], every: int) -> None:
    ends = np.cumsum([0, *steps]).tolist()
    due = [after for before, after in pairwise(ends) if is_due(before, after, every)]
    assert len(due) == len({end // every for end in ends}) - 1


@pytest.fixture
def config() -> TrainingConfig:
    """The model overfits, so it soon gets worse on other examples."""
    return TrainingConfig.model_validate(
        {
            "spec": "unused",
            "model": {"kind": "wide_deep", "hidden_units": [16]},
            "batch_size": 64,
            "epochs": 40,
            "shuffle_buffer": 2000,
            "deep": {"learning_rate": 0.2, "embedding_learning_rate": 0.3},
            "early_stopping": {"patience": 2, "validation_share": 0.5},
        }
    )


@pytest.fixture
def data(tmp_path: Path, log: Path, spec: FeatureSpec) -> TrainingData:
    return split_log(log, tmp_path / "records", spec, holdout=0.6, validation_share=0.5)


def test_a_run_ends_early_with_its_best_model(
    tmp_path: Path, config: TrainingConfig, data: TrainingData, spec: FeatureSpec
) -> None:
    model, result = train_records(data.directory, data.manifest, spec, config, checkpoints=tmp_path / "run")
    best = result.best
    assert best is not None
    assert best.waited == 2
    assert result.examples == best.evaluated < 40 * data.manifest.examples
    # One evaluation per epoch, in the first step that ends at or after its end.
    assert best.examples < best.evaluated - 2 * (data.manifest.examples - 64)
    validation = read_validation(data.directory, data.manifest, spec, config)
    assert validation is not None
    assert validation.value(predictor(model, spec), "auc") == pytest.approx(best.value, abs=1e-6)
    assert BestModel(tmp_path / "run").read() == best
    # A run that was stopped early stays stopped, with the same model.
    again, nothing = train_records(data.directory, data.manifest, spec, config, checkpoints=tmp_path / "run")
    assert (nothing.steps, nothing.best) == (0, best)
    assert validation.value(predictor(again, spec), "auc") == pytest.approx(best.value, abs=1e-6)


def test_a_run_without_a_folder_also_returns_its_best_model(
    config: TrainingConfig, data: TrainingData, spec: FeatureSpec
) -> None:
    settings = EarlyStoppingConfig(metric="log_loss", patience=1, every_examples=256)
    config = config.model_copy(update={"early_stopping": settings})
    model, result = train_records(data.directory, data.manifest, spec, config)
    assert result.best is not None
    assert result.best.examples % 256 == 0
    validation = read_validation(data.directory, data.manifest, spec, config)
    assert validation is not None
    assert validation.value(predictor(model, spec), "log_loss") == pytest.approx(result.best.value, abs=1e-6)


def test_a_run_killed_in_an_evaluation_makes_it_again(tmp_path: Path, spec: FeatureSpec) -> None:
    config = TrainingConfig.model_validate({"spec": "unused", "model": "logistic_regression"})
    settings, layout, evaluated = EarlyStoppingConfig(patience=2), Layout(spec), list[int]()
    rows = np.zeros((2, layout.row_ids), np.int32), np.zeros((2, layout.row_floats), np.float32)
    stream = Stream(2, 1, lambda: iter([Examples(*rows, np.array([0, 1], np.int8))]))

    def run(*, is_killed: bool) -> None:
        model = build_model(config, spec)
        # After each step.
        kept = Checkpoints(tmp_path, every_seconds=1e-9, now=0)
        kept.attach(model, tf.Module())

        def predict(ids: I32, floats: F32) -> F32:
            if is_killed and evaluated:
                raise InterruptedError
            evaluated.append(kept.position.steps)
            return np.array([0.4, 0.6], np.float32)

        stopping = EarlyStopping(
            settings, 20, model=model, predict=predict, checkpoints=kept, validation=Validation(stream, 1.0, 20)
        )
        data = tf.data.Dataset.from_tensors((tf.zeros([10, 1]),)).repeat(6 - kept.position.steps)
        run_steps(lambda _: tf.constant(0.5), data, None, checkpoints=kept, stopping=stopping)

    with pytest.raises(InterruptedError):
        run(is_killed=True)
    assert BestModel(tmp_path).read() == Standing(1.0, 20, 20)
    run(is_killed=False)
    # At 20, 40 and 60 examples, as in a run that was not killed.
    assert BestModel(tmp_path).read() == Standing(1.0, 20, 60, waited=2)


def test_a_log_is_split_in_order_of_time(
    log: Path, config: TrainingConfig, data: TrainingData, spec: FeatureSpec
) -> None:
    (whole,) = encode_log(read_log(log), Encoder(spec), chunk=10_000)
    validation = read_validation(data.directory, data.manifest, spec, config)
    assert validation is not None
    later = list(data.holdout.blocks())
    parts = [data.training(), *validation.examples.blocks(), *later]
    assert [len(part.labels) for part in parts] == [1200, 1200, 3600]
    in_time = [row.tolist() for part in parts for row in part.ids]
    assert sorted(in_time[:1200]) == sorted(whole.ids[:1200].tolist())
    assert sorted(in_time[1200:2400]) == sorted(whole.ids[1200:2400].tolist())
    np.testing.assert_array_equal(later[0].ids, whole.ids[2400:])
    assert (data.holdout.examples, data.holdout.clicks) == (3600, int(later[0].labels.sum()))


def test_without_validation_examples_nothing_is_trained(
    tmp_path: Path, log: Path, config: TrainingConfig, spec: FeatureSpec
) -> None:
    data = split_log(log, tmp_path / "records", spec, holdout=0.9)
    with pytest.raises(DataError, match="early_stopping needs validation examples, and there are none"):
        train_records(data.directory, data.manifest, spec, config)
