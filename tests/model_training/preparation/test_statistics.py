"""Statistics of numbers: robust against single wrong values, the same bits for rows in any order."""

from math import isfinite
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_training.errors import DataError
from model_training.preparation.encoding import NUMBERS
from model_training.preparation.rows import KEY
from model_training.preparation.statistics import fitted, observe, robust
from streamer.features import FeatureSpec
from tests.model_training.preparation.conftest import SPARK_LEAVES_SOCKETS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


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


@pytest.mark.slow
@SPARK_LEAVES_SOCKETS
def test_statistics_of_a_sample_do_not_depend_on_the_order_of_rows(spark: "SparkSession") -> None:
    features = [
        {"name": "n", "path": "n", "side": "user", "kind": "numeric", "wide": True},
        {"name": "b", "path": "b", "side": "user", "kind": "bucketised", "boundaries": [0], "wide": True},
    ]
    spec = FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": features})
    numbers = np.random.default_rng(1).normal(5.0, 2.0, (2000, 2))
    numbers[0, 0], numbers[1, 0], numbers[2, 0] = np.nan, np.inf, 1e12
    rows = spark.createDataFrame(
        [(str(i), row.tolist()) for i, row in enumerate(numbers)], f"{KEY} string, {NUMBERS} array<double>"
    )
    found = [observe(rows.repartition(parts), spec, quantiles=4, sample_rows=500) for parts in (1, 7)]
    assert found[0] == found[1]
    assert {name: found[0]["n"][name] for name in ("present", "missing", "not_finite")} == {
        "present": 1998, "missing": 1, "not_finite": 1
    }  # fmt: skip
    assert found[0]["n"]["mean"] == pytest.approx(5.0, abs=0.3)
    assert found[0]["n"]["std"] == pytest.approx(2.0, abs=0.3)
    assert found[0]["b"]["boundaries"] == pytest.approx([3.65, 5.0, 6.35], abs=0.4)
    infinite = rows.where("key = '1'")
    with pytest.raises(DataError, match=r"^feature 'n': none of its 1 values in the training rows is finite: correct"):
        observe(infinite, spec, quantiles=4)


def test_statistics_that_no_spec_can_hold_are_one_line(numbers_spec: FeatureSpec) -> None:
    with pytest.raises(DataError, match=r"^spec 'prepared' with statistics: feature 'bid'\.std: [^\n]*$"):
        fitted(numbers_spec, {"bid": {"mean": 0.0, "std": 0.0}})
