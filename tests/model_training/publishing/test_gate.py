"""The gate's decisions, and the limits that it names."""

from dataclasses import replace
from pathlib import Path

import pytest

from model_training.config.gate import GateConfig
from model_training.errors import ConfigError
from model_training.evaluation.comparison import Difference
from model_training.evaluation.groups import GroupCounts
from model_training.publishing.candidate import Evaluation, ModelEvaluation
from model_training.publishing.gate import decide

GOOD = ModelEvaluation("new", "hash", 1_000, 50_000, 0.75, 0.2, 1.02, 0.01, 1.1, 2.0)
EQUAL = {
    "auc": Difference(0.75, 0.75, -0.001, 0.001),
    "gauc": Difference(0.7, 0.7, -0.002, 0.002),
    "log_loss": Difference(0.2, 0.2, -0.001, 0.001),
}
EQUAL_ROUNDED = Difference(0.75, 0.75, -0.0001, 0.0001)
GROUPS = GroupCounts(50, None, 0, 1_000)
AS_GOOD = Evaluation(1_000, 100, GROUPS, GOOD, replace(GOOD, path="old", median_ms=1.0), EQUAL, 0.01, EQUAL_ROUNDED)
LIMITS = GateConfig(max_latency_ratio=1.5, max_bytes=100_000)


def _beyond(evaluation: Evaluation, limits: GateConfig = LIMITS) -> list[str]:
    return [verdict.limit for verdict in decide(evaluation, limits) if not verdict.holds]


def test_an_equal_candidate_passes_every_limit() -> None:
    assert _beyond(AS_GOOD) == []
    assert {v.limit for v in decide(AS_GOOD, LIMITS)} == set(GateConfig.model_fields) - {"confidence", "resamples"}


@pytest.mark.parametrize(
    ("limit", "worse"),
    [
        ("min_auc", replace(AS_GOOD, candidate=replace(GOOD, auc=0.5))),
        ("max_calibration_bias", replace(AS_GOOD, candidate=replace(GOOD, calibration=0.8))),
        ("max_calibration_bias", replace(AS_GOOD, candidate=replace(GOOD, calibration=float("nan")))),
        ("max_bytes", replace(AS_GOOD, candidate=replace(GOOD, file_bytes=200_000))),
        ("max_latency_ratio", replace(AS_GOOD, candidate=replace(GOOD, median_ms=2.0))),
        ("max_score_drift", replace(AS_GOOD, score_drift=0.5)),
        ("max_bfloat16_auc_loss", replace(AS_GOOD, rounding=Difference(0.7495, 0.75, -0.0008, -0.0002))),
        # Not worse on average, but the examples do not show it.
        ("max_auc_loss", replace(AS_GOOD, differences=EQUAL | {"auc": Difference(0.75, 0.75, -0.02, 0.02)})),
        ("max_gauc_loss", replace(AS_GOOD, differences=EQUAL | {"gauc": Difference(0.7, 0.71, -0.02, 0.0)})),
        ("max_log_loss_rise", replace(AS_GOOD, differences=EQUAL | {"log_loss": Difference(0.3, 0.2, 0.09, 0.11)})),
    ],
)  # fmt: skip
def test_a_value_beyond_a_limit_is_named(limit: str, worse: Evaluation) -> None:
    assert _beyond(worse) == [limit]
    assert _beyond(worse, LIMITS.model_copy(update={limit: None})) == []


def test_a_first_version_is_evaluated_alone() -> None:
    first = replace(AS_GOOD, served=None, differences={}, score_drift=None, rounding=None)
    assert [v.limit for v in decide(first, LIMITS)] == ["min_auc", "max_calibration_bias", "max_bytes"]


def test_the_shipped_limits_are_the_defaults_and_mistakes_are_named(tmp_path: Path) -> None:
    assert GateConfig.from_yaml(Path("configs/gate.yaml")) == GateConfig()
    wrong = tmp_path / "gate.yaml"
    wrong.write_text("min_acu: 0.6\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="min_acu: unknown key; did you mean 'min_auc'"):
        GateConfig.from_yaml(wrong)
