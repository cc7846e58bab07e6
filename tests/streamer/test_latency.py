import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.latency import LatencyModel, LatencyModels
from streamer.types import ModelVersion


def test_there_is_no_prediction_before_the_first_reply() -> None:
    assert LatencyModel().estimate(1000) == 0.0
    assert LatencyModel().rows_within(-1.0) == math.inf


def test_rows_within_is_the_inverse_of_the_estimate() -> None:
    model = LatencyModel()
    for rows in (100, 1000) * 20:
        model.observe(rows, 0.002 + 1e-5 * rows)
    for rows in (1, 300, 5000):
        assert model.rows_within(model.estimate(rows)) == pytest.approx(rows, rel=1e-6)
    assert model.rows_within(0.001) == model.rows_within(-1.0) == 0.0


def test_a_line_is_learnt() -> None:
    model = LatencyModel()
    random = np.random.default_rng(1)
    for rows in random.integers(50, 1200, 300):
        model.observe(int(rows), 0.001 + 4e-6 * rows + random.normal(0, 5e-5))
    for rows in (1, 300, 1200):
        assert model.estimate(rows) == pytest.approx(0.001 + 4e-6 * rows, rel=0.05)


def test_batches_of_one_size_are_learnt_too() -> None:
    model = LatencyModel()
    for _ in range(100):
        model.observe(300, 0.003)
    assert model.estimate(300) == pytest.approx(0.003)


def test_outliers_have_little_effect_and_are_forgotten() -> None:
    model = LatencyModel()
    random = np.random.default_rng(2)
    for i, rows in enumerate(random.integers(50, 1200, 400)):
        model.observe(int(rows), 2.0 if i == 390 else 0.001 + 4e-6 * rows)
    assert model.estimate(600) < 1.2 * (0.001 + 4e-6 * 600)
    for rows in random.integers(50, 1200, 300):
        model.observe(int(rows), 0.001 + 4e-6 * rows)
    assert model.estimate(600) == pytest.approx(0.001 + 4e-6 * 600, rel=0.02)


def test_a_slower_server_is_learnt() -> None:
    model = LatencyModel()
    for rows in [100, 1000] * 50:
        model.observe(rows, 1e-6 * rows)
    for rows in [100, 1000] * 200:
        model.observe(rows, 2e-5 * rows)
    assert model.estimate(500) == pytest.approx(0.01, rel=0.1)


@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 10)), max_size=30), st.integers(0, 5000))
def test_an_estimate_is_finite_and_not_negative(replies: list[tuple[int, float]], rows: int) -> None:
    model = LatencyModel()
    for n, seconds in replies:
        model.observe(n, seconds)
    assert 0 <= model.estimate(rows) < math.inf


def test_timed_out_calls_raise_the_estimate() -> None:
    model = LatencyModel()
    model.timed_out(100, 0.02)
    assert model.estimate(100) == 0.0, "a timeout before the first reply is no measurement"
    for _ in range(100):
        model.observe(100, 0.005)
    for _ in range(200):
        model.timed_out(100, 0.02)
    assert model.estimate(100) == pytest.approx(0.02, rel=0.05)
    model.timed_out(100, 0.001)
    assert model.estimate(100) == pytest.approx(0.02, rel=0.05), "the estimate was above 1 ms already"


def test_only_the_most_recent_versions_are_kept() -> None:
    models = LatencyModels()
    first = ModelVersion("ctr", 1)
    models.of(first).observe(10, 0.005)
    assert models.of(first).estimate(10) == pytest.approx(0.005)
    for version in range(2, 65):
        models.of(ModelVersion("ctr", version))
    assert models.of(first).estimate(10) == pytest.approx(0.005)
    models.of(ModelVersion("ctr", 65))
    assert models.of(first).estimate(10) == 0.0
