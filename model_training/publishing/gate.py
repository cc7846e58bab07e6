"""The gate: whether a candidate may replace the served version; pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from model_training.config.gate import GateConfig
from model_training.evaluation.comparison import Estimate
from model_training.publishing.evaluation import Evaluation

_FORMATS: Mapping[str, str] = {
    "min_clicks": "z,.0f",
    "max_bytes": "z,.0f",
    "max_auc_loss": "+z.4f",
    "max_gauc_loss": "+z.4f",
    "max_normalised_entropy_rise": "+z.4f",
    "max_bfloat16_auc_loss": "+z.5f",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A measured value, its bounds, and whether it holds them.

    Attributes:
        measure: the measured quantity, in words.
        low, high: interval of the value; equal to the value where there is no sample.
        at_least, at_most: bounds of the interval, and so of its unfavourable end; None: not bounded.
    """

    limit: str
    measure: str
    value: float
    low: float
    high: float
    at_least: float | None
    at_most: float | None
    holds: bool

    def __str__(self) -> str:
        form = _FORMATS.get(self.limit, "z.4f")
        sampled = self.low != self.high
        interval = f", interval {self.low:{form}} to {self.high:{form}}" if sampled else ""
        if self.at_most is None:
            bound = f"{'the lower end' if sampled else 'it'} must be at least {self.at_least:{form}}"
        elif self.at_least is None:
            bound = f"{'the upper end' if sampled else 'it'} must be at most {self.at_most:{form}}"
        else:
            bound = f"it must be within {self.at_least:{form}} and {self.at_most:{form}}"
        return f"{self.limit}: {self.measure} {self.value:{form}}{interval}; {bound}"


def corrected_confidence(confidence: float, tries: int) -> float:
    """The confidence of the intervals of the k-th try on one test split.

    With α = 1 - confidence, try k may spend α / (k (k + 1)). The sum over all tries is α, so the chance that any of
    them passes wrongly stays below α, however many follow. Foster and Stine: α-investing (2008), section 2.
    """
    return 1 - (1 - confidence) / (tries * (tries + 1))


def decide(evaluation: Evaluation, config: GateConfig, confidence: float) -> list[Verdict]:
    """One verdict per limit that applies; limits relative to another version need one.

    All limits must hold, so none of them needs a correction for the others (Berger: Multiparameter Hypothesis Testing
    and Acceptance Sampling, 1982).
    """
    return list(_verdicts(evaluation, config, confidence))


def is_better(evaluation: Evaluation, confidence: float) -> bool:
    """Whether the examples show that the candidate ranks better than the best version.

    The candidate then becomes the best version. Without proof of a gain the older version stays the bar: otherwise
    small losses, each within the limits, would add up.
    """
    found = evaluation.best_differences or evaluation.differences
    if not found:
        return True
    worse = found["normalised_entropy"].value > 0 or ("gauc" in found and found["gauc"].value < 0)
    return found["auc"].interval(confidence)[0] > 0 and not worse


def _verdicts(evaluation: Evaluation, config: GateConfig, confidence: float) -> Iterator[Verdict]:
    judge = _Judge(confidence)
    quality, estimates, bias = evaluation.candidate, evaluation.estimates, config.max_calibration_bias
    fewest = min(evaluation.clicks, evaluation.examples - evaluation.clicks)
    fewer = "clicks" if fewest == evaluation.clicks else "non-clicks"
    yield from judge("min_clicks", fewer, fewest, at_least=config.min_clicks)
    yield from judge("min_auc", "AUC", estimates["auc"], at_least=config.min_auc)
    entropy = estimates["normalised_entropy"]
    yield from judge("max_normalised_entropy", "normalised entropy", entropy, at_most=config.max_normalised_entropy)
    if bias is not None:
        calibration = estimates["calibration"]
        title = "sum of scores / clicks"
        yield from judge("max_calibration_bias", title, calibration, at_least=1 - bias, at_most=1 + bias)
    if evaluation.served is not None:
        yield from _losses(judge, evaluation.served.path, "served", evaluation.differences, config)
    if evaluation.best is not None:
        yield from _losses(judge, evaluation.best, "best of the window", evaluation.best_differences, config)
    exact, lost = "AUC - that of the same weights in float32", config.max_bfloat16_auc_loss
    yield from judge("max_bfloat16_auc_loss", exact, evaluation.rounding, at_least=_minus(lost))
    drift = "score drift against the served version"
    yield from judge("max_score_drift", drift, evaluation.score_drift, at_most=config.max_score_drift)
    if evaluation.served is not None:
        ratio = quality.median_ms / evaluation.served.median_ms
        yield from judge("max_latency_ratio", "time / served version's", ratio, at_most=config.max_latency_ratio)
    yield from judge("max_bytes", "bytes", quality.file_bytes, at_most=config.max_bytes)


def _losses(
    judge: "_Judge", path: str, role: str, found: Mapping[str, Estimate], config: GateConfig
) -> Iterator[Verdict]:
    than = f"that of version {Path(path).name} ({role})"
    yield from judge("max_auc_loss", f"AUC - {than}", found["auc"], at_least=_minus(config.max_auc_loss))
    yield from judge("max_gauc_loss", f"GAUC - {than}", found.get("gauc"), at_least=_minus(config.max_gauc_loss))
    by_request, most = found.get("request_gauc"), config.max_request_gauc_loss
    yield from judge("max_request_gauc_loss", f"GAUC by request - {than}", by_request, at_least=_minus(most))
    rise, most = found["normalised_entropy"], config.max_normalised_entropy_rise
    yield from judge("max_normalised_entropy_rise", f"normalised entropy - {than}", rise, at_most=most)


@dataclass(frozen=True, slots=True)
class _Judge:
    """Compares values with limits; intervals have this confidence."""

    confidence: float

    def __call__(
        self,
        limit: str,
        measure: str,
        value: Estimate | float | None,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> Iterator[Verdict]:
        """A verdict, if there is a value and a bound; NaN does not hold."""
        if value is None or (at_least is None and at_most is None):
            return
        if isinstance(value, Estimate):
            low, high = value.interval(self.confidence)
            value = value.value
        else:
            low = high = value
        holds = (at_least is None or low >= at_least) and (at_most is None or high <= at_most)
        yield Verdict(limit, measure, value, low, high, at_least, at_most, bool(holds))


def _minus(loss: float | None) -> float | None:
    return None if loss is None else 0.0 - loss  # and not -0.0
