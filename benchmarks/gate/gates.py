"""The gate of this version, and the former one, on the same figures. Pure."""

from benchmarks.gate.world import F64, Split
from model_training.config.gate import GateConfig
from model_training.evaluation.comparison import Measures, differences, estimates, score_drift
from model_training.evaluation.groups import GroupCounts
from model_training.publishing.evaluation import Evaluation, ModelEvaluation
from model_training.publishing.gate import corrected_confidence, decide

LIMITS = GateConfig()
_FORMER_MIN_AUC, _FORMER_BIAS, _FORMER_AUC, _FORMER_GAUC, _FORMER_RISE = 0.55, 0.1, 0.005, 0.01, 0.005
_MODEL = ModelEvaluation("", "", 0, 0, 0, 0, 0, 0, 1, 1)
"""Parameters, bytes and times of a model; the gate has no limits on them here."""


def measured(split: Split, scores: F64) -> Measures:
    """A model's measures, by user."""
    return Measures(split.labels, scores, split.users)


def evaluation(
    split: Split, scores: F64, served: tuple[F64, Measures] | None = None, best: Measures | None = None
) -> Evaluation:
    """The figures of a candidate, as `publish` computes them."""
    candidate = measured(split, scores)
    return Evaluation(
        examples=len(split.labels),
        clicks=int(split.labels.sum()),
        groups=GroupCounts(candidate.units, None, 0, len(split.labels)),
        split="",
        candidate=_MODEL,
        estimates=estimates(candidate),
        served=None if served is None else _MODEL,
        differences={} if served is None else differences(candidate, served[1]),
        score_drift=None if served is None else score_drift(scores, served[0]),
        best=None if best is None else "",
        best_differences={} if best is None else differences(candidate, best),
    )


def passes(found: Evaluation, tries: int = 1) -> bool:
    """Whether the gate passes a candidate, the k-th on its split."""
    return all(verdict.holds for verdict in decide(found, LIMITS, corrected_confidence(LIMITS.confidence, tries)))


def passed_formerly(found: Evaluation) -> bool:
    """Whether the former gate passes a candidate.

    It judged AUC and calibration by their values, and the log loss in nats; it knew neither tries nor a best version.
    Its intervals were percentiles of a bootstrap, which these intervals equal in the limit of many resamples.
    """
    own, against = found.estimates, found.differences
    kept = own["auc"].value >= _FORMER_MIN_AUC and abs(own["calibration"].value - 1) <= _FORMER_BIAS
    lows = {name: against[name].interval(0.95)[0] for name in ("auc", "gauc") if name in against}
    if "log_loss" in against:
        kept = kept and against["log_loss"].interval(0.95)[1] <= _FORMER_RISE
    drift = found.score_drift is None or found.score_drift <= 0.25
    return kept and drift and lows.get("auc", 0) >= -_FORMER_AUC and lows.get("gauc", 0) >= -_FORMER_GAUC
