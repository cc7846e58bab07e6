"""The gate: whether a candidate may replace the served version; pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from model_training.config.gate import GateConfig
from model_training.publishing.candidate import Evaluation


@dataclass(frozen=True, slots=True)
class Verdict:
    """A measured value and its limit; `holds` says whether the value is within the limit."""

    limit: str
    value: float
    bound: float
    holds: bool


def decide(evaluation: Evaluation, config: GateConfig) -> list[Verdict]:
    """One verdict per limit that applies; limits relative to a served model need one."""
    return list(_verdicts(evaluation, config))


def _verdicts(evaluation: Evaluation, config: GateConfig) -> Iterator[Verdict]:
    quality = evaluation.candidate
    if config.min_auc is not None:
        yield Verdict("min_auc", quality.auc, config.min_auc, quality.auc >= config.min_auc)
    bias = abs(quality.calibration - 1)
    yield from _at_most("max_calibration_bias", bias, config.max_calibration_bias)
    yield from _at_most("max_bytes", quality.file_bytes, config.max_bytes)
    for name, bound in (("auc", config.max_auc_loss), ("gauc", config.max_gauc_loss)):
        if name in evaluation.differences:
            yield from _at_most(f"max_{name}_loss", -evaluation.differences[name].low, bound)
    if "log_loss" in evaluation.differences:
        yield from _at_most("max_log_loss_rise", evaluation.differences["log_loss"].high, config.max_log_loss_rise)
    if evaluation.rounding is not None:
        yield from _at_most("max_bfloat16_auc_loss", -evaluation.rounding.low, config.max_bfloat16_auc_loss)
    if evaluation.score_drift is not None:
        yield from _at_most("max_score_drift", evaluation.score_drift, config.max_score_drift)
    if evaluation.served is not None:
        ratio = quality.median_ms / evaluation.served.median_ms
        yield from _at_most("max_latency_ratio", ratio, config.max_latency_ratio)


def _at_most(limit: str, value: float, bound: float | None) -> Iterator[Verdict]:
    if bound is not None:
        # NaN does not hold.
        yield Verdict(limit, float(value), float(bound), value <= bound)
