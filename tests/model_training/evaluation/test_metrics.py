"""Metrics, and the baseline that a model must beat."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from model_training.data.examples import Examples
from model_training.errors import DataError
from model_training.evaluation.baseline import LogisticBaseline
from model_training.evaluation.comparison import Measures
from model_training.evaluation.metrics import evaluate
from streamer.features import Encoder


def test_metrics_by_hand() -> None:
    quality = evaluate([1, 0, 1, 0], np.array([0.8, 0.4, 0.4, 0.2], dtype=np.float32))
    assert quality.auc == 0.875  # of the four pairs three stand right and one is a tie
    assert quality.log_loss == pytest.approx(-np.log([0.8, 0.6, 0.4, 0.8]).mean(), rel=1e-6)
    assert quality.calibration == pytest.approx(0.9)
    assert (quality.examples, quality.positives) == (4, 2)


def test_every_part_has_one_log_loss() -> None:
    """Scores of exactly 0 and 1 occur in float32; the report of training and the gate clip them alike."""
    labels, scores = np.array([1, 0, 1, 0]), np.array([0, 1, 0.5, 1e-9], dtype=np.float32)
    found = evaluate(labels, scores).log_loss
    assert found == Measures(labels, scores).of(np.ones(4))["log_loss"]
    assert found == pytest.approx(log_loss(labels, scores), rel=1e-6), "as scikit-learn clips float32"


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 0], [0.5], "1 scores for 2 labels"),
        ([1, 0], [0.5, 1.5], "not in"),
        ([1, 0], [0.5, np.nan], "not in"),
        ([1, 1], [0.5, 0.5], "2 clicks among 2 examples"),
        ([], [], "0 clicks among 0 examples"),
    ],
)
def test_scores_that_cannot_be_evaluated_are_rejected(labels: list[int], scores: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(labels, np.array(scores, dtype=np.float32))


def _examples(encoder: Encoder, hours: list[int], clicked: list[int]) -> Examples:
    ids, floats = encoder.encode_table({"hour": hours, "ad": ["x"] * len(hours)}, len(hours))
    return Examples(ids, floats, np.array(clicked, dtype=np.int8))


def test_the_baseline_learns_single_features_and_no_crosses(encoder: Encoder) -> None:
    rng = np.random.default_rng(1)
    hours = rng.integers(0, 4, 600)
    single = _examples(encoder, hours.tolist(), (hours % 2).tolist())
    baseline = LogisticBaseline(encoder.layout).fit(single)
    assert evaluate(single.labels, baseline.predict(single.ids, single.floats)).auc == 1.0

    ads = rng.integers(0, 4, 600)
    ids, floats = encoder.encode_table({"hour": hours.tolist(), "ad": [f"ad{a}" for a in ads]}, 600)
    crossed = Examples(ids, floats, ((hours + ads) % 2).astype(np.int8))
    baseline = LogisticBaseline(encoder.layout).fit(crossed)
    assert evaluate(crossed.labels, baseline.predict(ids, floats)).auc < 0.65


def test_the_baseline_needs_both_classes(encoder: Encoder) -> None:
    with pytest.raises(DataError, match="all equal"):
        LogisticBaseline(encoder.layout).fit(_examples(encoder, [1, 2], [0, 0]))
