"""Weights of examples: from a log to the loss and the metrics."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss, roc_auc_score

from model_training.config.training import TrainingConfig
from model_training.data.click_log import encode_log, read_log
from model_training.data.examples import Examples, joined
from model_training.data.input_pipeline import batches
from model_training.data.records import write_records
from model_training.data.training_data import read_examples
from model_training.errors import DataError
from model_training.evaluation.metrics import evaluate
from model_training.models.logistic_regression import LogisticRegression
from model_training.training.single_process import train
from streamer.features import Encoder, FeatureSpec, Layout
from tests.model_training.conftest import click_log

pytestmark = pytest.mark.tensorflow


def _weighted(log: Path, weights: object, *, line: int | None = None) -> Path:
    """The log with `weights` in all lines, or in one."""
    lines = [orjson.loads(text) for text in log.read_bytes().splitlines()]
    for i, content in enumerate(lines):
        if line in (None, i):
            content["weights"] = weights
    log.write_bytes(b"\n".join(map(orjson.dumps, lines)))
    return log


@pytest.fixture
def examples(tmp_path: Path, encoder: Encoder) -> Examples:
    (encoded,) = encode_log(read_log(_weighted(click_log(tmp_path / "log.jsonl", 20), [1, 2.5, 3])), encoder)
    return encoded


def test_weights_reach_the_batches(tmp_path: Path, examples: Examples, spec: FeatureSpec) -> None:
    assert examples.weights is not None
    assert examples.weights.tolist() == [1, 2.5, 3] * 20
    manifest = write_records([examples[:30], examples[30:]], tmp_path / "records", spec, shards=1)
    assert manifest.has_weights
    ((*_, weights),) = batches(tmp_path / "records", manifest, 60)
    np.testing.assert_array_equal(weights, examples.weights)
    read = read_examples(tmp_path / "records", manifest)
    np.testing.assert_array_equal(read.weights, examples.weights)
    assert read.identities is not None
    both = joined([examples, replace(examples, weights=None)], 0, 0).weights
    assert both is not None
    assert both[60:].tolist() == [1] * 60


@pytest.mark.parametrize(
    ("weights", "line", "message"),
    [
        ([1, 2], None, r":1: weights: expected a list as long as candidates \(3\), got \[1, 2\]"),
        ([1, 0, 1], None, r":1: weights\[1\]: expected a number above 0 and at most 1,000,000, got 0"),
        ([1, True, 1], 3, r":4: weights\[1\]: expected a number above 0"),
        ([1, 2, 3], 3, ":4: weights: either all lines of a log have them, or none"),
    ],
)
def test_wrong_weights_name_the_line(tmp_path: Path, weights: object, line: int | None, message: str) -> None:
    log = _weighted(click_log(tmp_path / "log.jsonl", 5), weights, line=line)
    with pytest.raises(DataError, match=message):
        list(read_log(log))


def test_an_example_of_weight_2_counts_as_two(examples: Examples, spec: FeatureSpec) -> None:
    config = TrainingConfig.model_validate({"spec": "unused", "model": "logistic_regression"})
    weights = np.where(np.arange(60) % 3, 1, 2).astype(np.float32)
    ids, floats, labels = examples.ids, examples.floats, examples.labels.astype(np.float32)
    twice = np.repeat(np.arange(60), weights.astype(int))

    def trained(*arrays: object) -> LogisticRegression:
        model = LogisticRegression(Layout(spec))
        train(model, spec, tf.data.Dataset.from_tensors(arrays), config)
        return model

    one, other = trained(ids, floats, labels, weights), trained(ids[twice], floats[twice], labels[twice])
    for a, b in zip(one.wide.trained, other.wide.trained, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)
    assert np.abs(one.wide.weights.numpy()).max() > 0.01


def test_metrics_count_weights() -> None:
    rng = np.random.default_rng(1)
    labels, ctr = rng.integers(0, 2, 50), rng.random(50).astype(np.float32)
    weights = rng.integers(1, 4, 50).astype(np.float32)
    found, repeated = evaluate(labels, ctr, weights), np.repeat(np.arange(50), weights.astype(int))
    assert found.examples == 50
    assert found.auc == pytest.approx(roc_auc_score(labels[repeated], ctr[repeated]))
    assert found.log_loss == pytest.approx(log_loss(labels[repeated], ctr[repeated]), rel=1e-5)
    assert found.calibration == pytest.approx(ctr[repeated].sum() / labels[repeated].sum(), rel=1e-5)
