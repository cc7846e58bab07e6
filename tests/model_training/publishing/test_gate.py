"""The gate's decisions, and the limits that it names."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from model_training.config.gate import GateConfig
from model_training.errors import ConfigError
from model_training.evaluation.comparison import Estimate
from model_training.evaluation.groups import GroupCounts
from model_training.publishing.evaluation import Evaluation, ModelEvaluation
from model_training.publishing.gate import corrected_confidence, decide, is_better

GOOD = ModelEvaluation("models/ctr/9", "hash", 1_000, 50_000, 0.75, 0.2, 1.02, 0.01, 1.1, 2.0)


def _estimate(value: float, error: float) -> Estimate:
    return Estimate(value, error, 1_000)


OWN = {
    "auc": _estimate(0.75, 0.01),
    "normalised_entropy": _estimate(0.9, 0.01),
    "calibration": _estimate(1.02, 0.03),
}
GROUPS = GroupCounts(50, None, 0, 1_000)
EQUAL = {
    "auc": _estimate(0.0, 0.0005),
    "gauc": _estimate(0.0, 0.001),
    "request_gauc": _estimate(0.0, 0.001),
    "normalised_entropy": _estimate(0.0, 0.001),
}
AS_GOOD = Evaluation(
    examples=10_000,
    clicks=1_000,
    groups=GROUPS,
    split="0",
    candidate=GOOD,
    estimates=OWN,
    served=replace(GOOD, path="models/ctr/8", median_ms=1.0),
    differences=EQUAL,
    score_drift=0.01,
    best="models/ctr/.gate/best/7",
    best_differences=EQUAL,
    rounding=_estimate(0.0, 0.0001),
)
LIMITS = GateConfig(max_request_gauc_loss=0.01, max_latency_ratio=1.5, max_bytes=100_000)
NO_LIMITS = {"confidence", "window_days"}


def _beyond(evaluation: Evaluation, limits: GateConfig = LIMITS) -> list[str]:
    return [verdict.limit for verdict in decide(evaluation, limits, 0.95) if not verdict.holds]


def _own(**changed: Estimate) -> Evaluation:
    return replace(AS_GOOD, estimates=OWN | changed)


def _with(base: Mapping[str, Estimate], **changed: Estimate) -> Mapping[str, Estimate]:
    return {**base, **changed}


def test_an_equal_candidate_passes_every_limit() -> None:
    assert _beyond(AS_GOOD) == []
    assert {v.limit for v in decide(AS_GOOD, LIMITS, 0.95)} == set(GateConfig.model_fields) - NO_LIMITS


NAN = float("nan")


@pytest.mark.parametrize(
    ("limit", "worse"),
    [
        ("min_clicks", replace(AS_GOOD, clicks=99)),
        ("min_clicks", replace(AS_GOOD, clicks=9_950)),
        # Above the limit, but the examples do not show it.
        ("min_auc", _own(auc=_estimate(0.6, 0.04))),
        ("max_normalised_entropy", _own(normalised_entropy=_estimate(0.99, 0.02))),
        ("max_calibration_bias", _own(calibration=_estimate(0.85, 0.03))),
        ("max_calibration_bias", _own(calibration=_estimate(1.15, 0.03))),
        ("max_calibration_bias", _own(calibration=Estimate(1.0, NAN, 0))),
        ("max_bytes", replace(AS_GOOD, candidate=replace(GOOD, file_bytes=200_000))),
        ("max_latency_ratio", replace(AS_GOOD, candidate=replace(GOOD, median_ms=2.0))),
        ("max_score_drift", replace(AS_GOOD, score_drift=0.5)),
        ("max_bfloat16_auc_loss", replace(AS_GOOD, rounding=_estimate(-0.0005, 0.0002))),
        ("max_auc_loss", replace(AS_GOOD, differences=_with(EQUAL, auc=_estimate(0.0, 0.01)))),
        ("max_gauc_loss", replace(AS_GOOD, differences=_with(EQUAL, gauc=_estimate(-0.01, 0.001)))),
        ("max_request_gauc_loss", replace(AS_GOOD, differences=_with(EQUAL, request_gauc=_estimate(-0.01, 0.001)))),
        ("max_normalised_entropy_rise",
         replace(AS_GOOD, differences=_with(EQUAL, normalised_entropy=_estimate(0.009, 0.001)))),
        # As good as the newest version, and worse than the best one of the window.
        ("max_auc_loss", replace(AS_GOOD, best_differences=_with(EQUAL, auc=_estimate(-0.02, 0.001)))),
    ],
)  # fmt: skip
def test_a_value_beyond_a_limit_is_named(limit: str, worse: Evaluation) -> None:
    assert _beyond(worse) == [limit]
    assert _beyond(worse, LIMITS.model_copy(update={limit: None})) == []


def test_a_first_version_is_evaluated_alone() -> None:
    first = replace(
        AS_GOOD, served=None, differences={}, score_drift=None, best=None, best_differences={}, rounding=None
    )
    own = ["min_clicks", "min_auc", "max_normalised_entropy", "max_calibration_bias", "max_bytes"]
    assert [v.limit for v in decide(first, LIMITS, 0.95)] == own
    assert is_better(first, 0.95)


def test_a_version_becomes_the_best_only_with_proof() -> None:
    def after(**changed: Estimate) -> bool:
        return is_better(replace(AS_GOOD, best_differences=_with(EQUAL, **changed)), 0.95)

    assert not after()
    assert not after(auc=_estimate(0.001, 0.001))
    assert after(auc=_estimate(0.004, 0.001))
    assert not after(auc=_estimate(0.004, 0.001), normalised_entropy=_estimate(0.001, 0.001))
    assert not after(auc=_estimate(0.004, 0.001), gauc=_estimate(-0.001, 0.001))
    assert is_better(
        replace(AS_GOOD, best=None, best_differences={}, differences={**EQUAL, "auc": _estimate(1, 0)}), 0.9
    )


def test_all_tries_together_have_the_confidence() -> None:
    risks = [1 - corrected_confidence(0.95, tries) for tries in range(1, 1_000)]
    assert risks[0] == pytest.approx(0.025)
    assert sorted(risks, reverse=True) == risks
    assert 0.0499 < sum(risks) < 0.05


def test_a_verdict_says_value_interval_and_bound() -> None:
    said = {str(verdict) for verdict in decide(AS_GOOD, LIMITS, 0.95)}
    assert (
        "max_auc_loss: AUC - that of version 7 (best of the window) +0.0000, interval -0.0010 to +0.0010;"
        " the lower end must be at least -0.0050" in said
    )
    assert (
        "max_calibration_bias: sum of scores / clicks 1.0200, interval 0.9611 to 1.0789; it must be within"
        in " ".join(said)
    )
    assert "min_clicks: clicks 1,000; it must be at least 100" in said
    assert "max_bytes: bytes 50,000; it must be at most 100,000" in said


@pytest.mark.parametrize("loss", [-0.0, -0.000_01, 0.0])
def test_no_loss_is_never_printed_as_minus_zero(loss: float) -> None:
    found = replace(AS_GOOD, differences=dict.fromkeys(EQUAL, Estimate(loss, 0.0, 10)), rounding=Estimate(loss, 0, 9))
    limits = LIMITS.model_copy(update={"max_auc_loss": 0.0, "max_gauc_loss": 0.0})
    said = " ".join(map(str, decide(found, limits, 0.95)))
    assert "-0.0000 " not in said
    assert "-0.00000 " not in said
    assert "at least -0.0000" not in said


def test_the_shipped_limits_are_the_defaults_and_mistakes_are_named(tmp_path: Path) -> None:
    assert GateConfig.from_yaml(Path("configs/gate.yaml")) == GateConfig()
    wrong = tmp_path / "gate.yaml"
    for text, message in {
        "min_acu: 0.6\n": "min_acu: unknown key; did you mean 'min_auc'",
        "max_log_loss_rise: 0.005\n": "max_log_loss_rise: no longer a limit; use max_normalised_entropy_rise",
        "resamples: 200\n": "resamples: no longer a limit; remove it",
    }.items():
        wrong.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=message):
            GateConfig.from_yaml(wrong)
