"""Statistics of numbers: robust against single wrong values, the same bits for rows in any order."""

from math import isfinite

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_training.errors import DataError
from model_training.preparation.statistics import fitted, robust
from streamer.features import FeatureSpec


@pytest.mark.parametrize("wrong", [1e12, -1e12, 1e308])
def test_one_wrong_value_does_not_change_the_scale(wrong: float) -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    found = robust(np.sort(np.append(values, wrong)))
    assert found["mean"] == pytest.approx(5.0, abs=0.3)
    assert found["std"] == pytest.approx(2.0, abs=0.3)
    assert found["clipped_share"] == pytest.approx(10 / 401)


def test_rare_values_keep_a_deviation() -> None:
    flags = np.sort(np.append(np.zeros(9_990), np.ones(10)))
    assert robust(flags) == pytest.approx({"mean": 0.001, "std": np.std(flags), "clipped_share": 0.0})
    flags[-1] = 1e12
    assert robust(flags)["std"] < 1


def test_values_that_do_not_vary_have_no_statistics() -> None:
    assert robust(np.zeros(0)) == robust(np.full(300, 7.0)) == {}


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=300))
def test_statistics_are_finite_and_within_the_values(values: list[float]) -> None:
    found = robust(np.sort(np.array(values)))
    if found:
        assert all(map(isfinite, found.values()))
        rounding = 1e-9 * max(map(abs, values))
        assert min(values) - rounding <= found["mean"] <= max(values) + rounding
        assert found["std"] > 0
        assert 0 <= found["clipped_share"] <= 2 / 3


def test_statistics_that_no_spec_can_hold_are_one_line(numbers_spec: FeatureSpec) -> None:
    with pytest.raises(DataError, match=r"^spec 'prepared' with statistics: feature 'bid'\.std: [^\n]*$"):
        fitted(numbers_spec, {"bid": {"mean": 0.0, "std": 0.0}})
