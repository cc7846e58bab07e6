"""Calibration: each map against its definition, and what it does to scores of a known truth."""

import numpy as np
import pytest

from model_training.calibration import Isotonic, Platt, calibrated, log_odds
from model_training.errors import DataError
from model_training.evaluation.calibration import fitted, isotonic, platt
from streamer.types import F32, F64


def _sigmoid(odds: F64) -> F64:
    return np.asarray(1 / (1 + np.exp(-odds)))


@pytest.fixture
def odds() -> F64:
    return np.random.default_rng(1).normal(-3, 1.5, 20_000)


@pytest.fixture
def labels(odds: F64) -> F64:
    """Clicks whose log odds bend, so that no line corrects the scores, which are too high."""
    truth = _sigmoid(-2.0 + 0.6 * odds + 0.8 * np.tanh(odds + 3))
    return (np.random.default_rng(2).random(len(odds)) < truth).astype(np.float64)


def test_platt_is_logistic_regression(odds: F64, labels: F64) -> None:
    found = platt(labels, odds)
    # Newton's method on the same likelihood.
    x, w = np.stack([odds, np.ones_like(odds)], axis=1), np.zeros(2)
    for _ in range(30):
        p = _sigmoid(x @ w)
        w += np.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]), x.T @ (labels - p))
    np.testing.assert_allclose([found.scale, found.offset], w, atol=1e-5)


def test_isotonic_pools_bins_until_rates_rise() -> None:
    # 40 clicks, so four bins of three different examples: rates 1/3, 0, 1/3, 2/3. The first two are pooled.
    odds = np.array([-4.0, -3.5, -3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5])
    labels = np.array([0, 1, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1.0])
    found = isotonic(np.repeat(labels, 10), np.repeat(odds, 10))
    np.testing.assert_allclose(found.inputs, [-2.75, -0.5, 1.0])
    np.testing.assert_allclose(_sigmoid(np.array(found.outputs)), [1 / 6, 1 / 3, 2 / 3])
    # Between the points a line, outside them the shift of the last point.
    half = (found.outputs[0] + found.outputs[1]) / 2
    np.testing.assert_allclose(
        found.of(np.array([-9.0, -1.625, 4.0])), [found.outputs[0] - 6.25, half, found.outputs[2] + 3.0]
    )


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_calibrated_scores_are_click_rates_in_the_same_order(kind: str, odds: F64, labels: F64) -> None:
    ctr: F32 = _sigmoid(odds).astype(np.float32)
    found = fitted("platt" if kind == "platt" else "isotonic", labels, ctr, 1.0)
    assert (found.examples, found.clicks, found.map.kind) == (20_000, int(labels.sum()), kind)
    assert found.before.calibration > 1.8
    assert found.after.calibration == pytest.approx(1, abs=0.02)
    assert found.after.calibration_error < found.before.calibration_error * (0.5 if kind == "platt" else 0.15)
    assert found.after.log_loss < found.before.log_loss
    order = np.argsort(odds)
    assert np.all(np.diff(found.map.of(odds[order])) > 0)
    np.testing.assert_allclose(found.scores(ctr), _sigmoid(found.map.of(odds)), rtol=1e-4)


def test_equal_scores_share_a_bin_though_the_click_rate_rises_over_time() -> None:
    rng, n = np.random.default_rng(3), 200_000
    ctr: F32 = rng.choice(np.array([0.02, 0.05, 0.2], np.float32), n)
    labels = (rng.random(n) < ctr * np.linspace(0.8, 1.12, n)).astype(np.float64)
    found = fitted("isotonic", labels, ctr, 1.0)
    assert found.after.calibration == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_scores_in_the_wrong_order_are_rejected(kind: str, odds: F64, labels: F64) -> None:
    with pytest.raises(DataError, match=r"export\.calibration: the model's higher scores do not have more clicks"):
        (platt if kind == "platt" else isotonic)(labels, -odds)


def test_scores_of_0_and_1_stay_finite() -> None:
    ends = np.array([0.0, 1.0], np.float32)
    assert np.all(np.isfinite(log_odds(ends)))
    for way in (Platt(2.0, 1.0), Isotonic((-1.0, 1.0), (-2.0, 0.5))):
        low, high = calibrated(way, ends).tolist()
        assert 0 <= low < 1e-4
        assert 0.99 < high <= 1
