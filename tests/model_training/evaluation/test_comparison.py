"""Measures against slow definitions, and the coverage of intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from model_training.evaluation.comparison import (
    Estimate,
    Measures,
    calibration_error,
    differences,
    estimates,
    resampled,
    score_drift,
    user_aucs,
)

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
        constant = np.full(len(repeated[0]), repeated[0].mean())
        np.testing.assert_allclose(found["normalised_entropy"], log_loss(*repeated) / log_loss(repeated[0], constant))
    else:
        assert not np.isfinite(found["auc"])
    aucs, impressions = user_aucs(labels.astype(float), scores, users)
    shares = np.where(np.isnan(aucs), 0, impressions * weights)
    if shares.sum():
        np.testing.assert_allclose(found["gauc"], np.nansum(aucs * shares) / shares.sum())
    if np.isnan(aucs).all():
        assert "gauc" not in found


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
        found = differences(Measures(labels, scores, users), served)
        assert set(found) == {"auc", "log_loss", "calibration", "normalised_entropy", "gauc"}
        low, high = found["auc"].interval(0.95)
        assert (high < -0.005) is worse
        assert (low > -0.005) is not worse
    # A model does not differ from itself on any resample.
    assert {d.interval(0.9) for d in differences(served, served).values()} == {(0.0, 0.0)}


@settings(max_examples=30)
@given(ROWS)
def test_an_influence_is_the_derivative_by_the_weight_of_a_unit(rows: list[tuple[int, float, int]]) -> None:
    labels, scores, users = (np.array(column) for column in zip(*rows, strict=True))
    users = np.unique(users, return_inverse=True)[1]
    if not 0 < labels.sum() < len(labels):
        return
    for owners in (None, users):
        measures, step = Measures(labels, scores, owners), 1e-6
        for name, found in measures.influences.items():
            for unit in range(measures.units):
                by = step * (np.arange(measures.units) == unit)
                up, down = (measures.of(1 + sign * by)[name] for sign in (1, -1))
                if np.isfinite(up):
                    np.testing.assert_allclose(found[unit], (up - down) / (2 * step), atol=1e-6)


def test_standard_errors_are_those_of_a_bootstrap_of_users() -> None:
    labels, truth, rng = _clicks(6_000)
    users = rng.integers(0, 400, len(labels))
    noise = rng.normal(0, 0.5, 400)[users]
    other = Measures(labels, np.clip(truth * np.exp(noise), 0, 1), users)
    models = Measures(labels, truth, users), other
    drawn = resampled(models, resamples=300)
    for i, measures in enumerate(models):
        for name, found in estimates(measures).items():
            assert found.error == pytest.approx(drawn[name][:, i].std(), rel=0.15), name
    for name, found in differences(*models).items():
        assert found.error == pytest.approx((drawn[name][:, 0] - drawn[name][:, 1]).std(), rel=0.15), name


def test_one_click_shows_nothing() -> None:
    found = estimates(Measures([1, 0, 0], [0.5, 0.2, 0.1]))["auc"]
    assert (found.value, found.freedom) == (1.0, 0)
    assert np.isnan(found.interval(0.95)).all()
    low, high = Estimate(0.0, 1.0, 10_000_000).interval(0.95)
    assert (low, high) == pytest.approx((-1.96, 1.96), abs=1e-3)
    assert Estimate(0.0, 1.0, 4).interval(0.95)[1] > 2.5, "few clicks make wide intervals"


def test_one_lucky_user_makes_a_wide_interval() -> None:
    labels, scores, _ = _clicks(2_000)
    other = np.where(np.arange(2_000) < 1_000, labels * 0.9 + 0.05, scores)
    users = np.where(np.arange(2_000) < 1_000, 0, np.arange(2_000) - 999)
    alone, whole = (
        differences(Measures(labels, other, who), Measures(labels, scores, who))["auc"].error for who in (None, users)
    )
    assert whole > 3 * alone


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
