"""Measures against slow definitions, and the coverage of intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from model_training.evaluation.comparison import Measures, calibration_error, differences, score_drift, user_aucs

ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.9]), st.integers(0, 3)), min_size=1, max_size=40
)


def _auc(labels: list[int], scores: list[float]) -> float:
    """AUC by its definition: the share of pairs of a click and a non-click in the right order."""
    pairs = [
        (a > b) + (a == b) / 2
        for a, x in zip(scores, labels, strict=True)
        if x
        for b, y in zip(scores, labels, strict=True)
        if not y
    ]
    return float(np.mean(pairs)) if pairs else float("nan")


@given(ROWS)
def test_the_auc_of_a_user_is_that_of_the_user_s_own_pairs(rows: list[tuple[int, float, int]]) -> None:
    labels, scores, users = (np.array(column) for column in zip(*rows, strict=True))
    aucs, impressions = user_aucs(labels.astype(float), scores, users)
    assert impressions.tolist() == np.bincount(users).tolist()
    for user in range(users.max() + 1):
        own = users == user
        expected = _auc(labels[own].tolist(), scores[own].tolist())
        np.testing.assert_allclose(aucs[user], expected)


@given(ROWS, st.integers(0, 2**32 - 1))
def test_weights_count_examples_several_times(rows: list[tuple[int, float, int]], seed: int) -> None:
    labels, scores, users = (np.array(column) for column in zip(*rows, strict=True))
    users = np.unique(users, return_inverse=True)[1]
    weights = np.random.default_rng(seed).integers(0, 4, users.max() + 1)
    times = weights[users]
    found = Measures(labels, scores, users).of(weights.astype(float))
    repeated = np.repeat(labels, times), np.repeat(scores, times)
    if 0 < repeated[0].sum() < len(repeated[0]):
        np.testing.assert_allclose(found["auc"], roc_auc_score(*repeated))
        np.testing.assert_allclose(found["log_loss"], log_loss(*repeated))
        np.testing.assert_allclose(found["calibration"], repeated[1].sum() / repeated[0].sum())
    else:
        assert not np.isfinite(found["auc"])
    aucs, impressions = user_aucs(labels.astype(float), scores, users)
    shares = np.where(np.isnan(aucs), 0, impressions * weights)
    if shares.sum():
        np.testing.assert_allclose(found["gauc"], np.nansum(aucs * shares) / shares.sum())


def _clicks(n: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(5)
    truth = rng.beta(1, 9, n)
    return (rng.random(n) < truth).astype(int), truth, rng


def test_a_worse_model_is_distinguished_from_an_equal_one() -> None:
    labels, truth, rng = _clicks(20_000)
    users = rng.integers(0, 2_000, len(labels))
    noisy = np.clip(truth * np.exp(rng.normal(0, 1.0, len(truth))), 0, 1)
    nearly = np.clip(truth * np.exp(rng.normal(0, 0.01, len(truth))), 0, 1)
    served = Measures(labels, truth, users)
    for scores, worse in ((noisy, True), (nearly, False)):
        found = differences(Measures(labels, scores, users), served, resamples=60, confidence=0.95)
        assert set(found) == {"auc", "log_loss", "calibration", "gauc"}
        auc = found["auc"]
        assert auc.low <= auc.candidate - auc.served <= auc.high
        assert (auc.high < -0.005) is worse
        assert (auc.low > -0.005) is not worse
    # A model does not differ from itself on any resample.
    same = differences(served, served, resamples=20, confidence=0.9)
    assert {(d.low, d.high) for d in same.values()} == {(0.0, 0.0)}


def test_one_lucky_user_makes_a_wide_interval() -> None:
    labels, scores, _ = _clicks(2_000)
    other = np.where(np.arange(2_000) < 1_000, labels * 0.9 + 0.05, scores)
    users = np.where(np.arange(2_000) < 1_000, 0, np.arange(2_000) - 999)
    alone, whole = (
        differences(Measures(labels, other, who), Measures(labels, scores, who), resamples=60, confidence=0.95)["auc"]
        for who in (None, users)
    )
    assert whole.high - whole.low > 3 * (alone.high - alone.low)


def test_calibration_error_is_the_distance_by_bin() -> None:
    labels, scores = np.repeat([0, 1, 0, 1], [90, 10, 50, 50]), np.repeat([0.1, 0.4], [100, 100])
    assert calibration_error(labels, scores, bins=2) == pytest.approx((0 + 0.1) / 2)
    drawn, truth, _ = _clicks(200_000)
    assert calibration_error(drawn, truth) < 0.005
    assert calibration_error(drawn, truth * 2) == pytest.approx(truth.mean(), abs=0.01)


def test_drift_grows_with_the_shift() -> None:
    _, scores, _ = _clicks(10_000)
    drifts = [score_drift(np.clip(scores * by, 0, 1), scores) for by in (1.0, 1.2, 2.0)]
    assert drifts[0] == 0
    assert 0 < drifts[1] < 0.25 < drifts[2]
