"""Evaluates a candidate, and compares it with the served model on the same later examples."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model_training.config.training import Compute
from model_training.data.examples import Examples
from model_training.evaluation.comparison import (
    Difference,
    Measures,
    calibration_error,
    differences,
    score_drift,
)
from model_training.evaluation.groups import GroupCounts, Groups
from model_training.evaluation.metrics import evaluate as measure
from model_training.export.servable import Servable

_AGREEMENT_ROWS = 300
_TIMED_CALLS = 50


@dataclass(frozen=True, slots=True)
class ModelEvaluation:
    """The evaluation of one model.

    Attributes:
        calibration: sum of the scores / clicks.
        calibration_error: expected calibration error in 20 bins of equal count.
        compute: number format of the dense layers.
        median_ms, p99_ms: duration of the signature `score` for one request of 300 candidates, called from Python.
    """

    path: str
    spec_hash: str
    parameters: int
    file_bytes: int
    auc: float
    log_loss: float
    calibration: float
    calibration_error: float
    median_ms: float
    p99_ms: float
    compute: Compute = "float32"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The evaluation of a candidate.

    Attributes:
        served: None if no version is served yet; then `differences` is empty and `score_drift` is None.
        differences: by measure: `auc`, `log_loss`, `calibration`, and if they are known `gauc` and `request_gauc`.
        rounding: AUC of a candidate that computes in bfloat16, and that of the same weights in float32 (as `served`);
            None for a candidate in float32.
    """

    examples: int
    clicks: int
    groups: GroupCounts
    candidate: ModelEvaluation
    served: ModelEvaluation | None
    differences: Mapping[str, Difference]
    score_drift: float | None
    rounding: Difference | None = None


def evaluate(
    candidate: Servable,
    served: Servable | None,
    examples: Mapping[str, Examples],
    *,
    resamples: int = 200,
    confidence: float = 0.95,
) -> Evaluation:
    """Evaluates `candidate`, and compares it with `served` if there is one.

    Args:
        examples: the same examples encoded by each model's spec, by the spec's hash.

    Raises:
        ExportError: the candidate has no warm-up, or its signatures disagree.
        DataError: a score is not a probability, or clicks or non-clicks are missing.
    """
    own = examples[candidate.spec.hash]
    candidate.check_warmup()
    candidate.check_agreement(own.ids[:_AGREEMENT_ROWS], own.floats[:_AGREEMENT_ROWS])
    groups = Groups.of(own)
    models = [candidate] if served is None else [candidate, served]
    scores = [model.scores(examples[model.spec.hash].ids, examples[model.spec.hash].floats) for model in models]
    evaluated = [_evaluated(model, examples[model.spec.hash], ctr) for model, ctr in zip(models, scores, strict=True)]
    found: Mapping[str, Difference] = {}
    drift = rounding = None
    measures = Measures(own.labels, scores[0], groups.users, groups.requests)
    if served is not None:
        other = Measures(own.labels, scores[1], groups.users, groups.requests)
        found = differences(measures, other, resamples=resamples, confidence=confidence)
        drift = score_drift(scores[0], scores[1])
    if candidate.compute != "float32":
        exact = Measures(own.labels, candidate.float32_scores(own.ids, own.floats), groups.users, groups.requests)
        rounding = differences(measures, exact, resamples=resamples, confidence=confidence)["auc"]
    return Evaluation(
        len(own.labels),
        int(own.labels.sum()),
        groups.counts,
        evaluated[0],
        evaluated[1] if served is not None else None,
        found,
        drift,
        rounding,
    )


def _evaluated(model: Servable, examples: Examples, ctr: np.ndarray) -> ModelEvaluation:
    quality = measure(examples.labels, ctr)
    milliseconds = 1e3 * np.array(model.score_seconds(examples.ids, examples.floats, _TIMED_CALLS))
    return ModelEvaluation(
        path=str(model.path),
        spec_hash=model.spec.hash,
        parameters=model.parameters,
        file_bytes=model.file_bytes,
        auc=quality.auc,
        log_loss=quality.log_loss,
        calibration=quality.calibration,
        calibration_error=calibration_error(examples.labels, ctr),
        median_ms=float(np.median(milliseconds)),
        p99_ms=float(np.quantile(milliseconds, 0.99)),
        compute=model.compute,
    )
