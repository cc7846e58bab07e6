"""Evaluates a candidate, and compares it with earlier versions on the same later examples."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

import numpy as np

from model_training.data.examples import Examples
from model_training.evaluation.calibration import figures
from model_training.evaluation.comparison import (
    Measures,
    calibration_error,
    differences,
    estimates,
    score_drift,
)
from model_training.evaluation.groups import Groups
from model_training.evaluation.metrics import evaluate as measure
from model_training.export.servable import Servable
from model_training.publishing.evaluation import Evaluation, ModelEvaluation
from streamer.types import F32

_AGREEMENT_ROWS = 300
_TIMED_CALLS = 50


def evaluate(
    candidate: Servable,
    served: Servable | None,
    examples: Mapping[str, Examples],
    *,
    best: Servable | None = None,
) -> Evaluation:
    """Evaluates `candidate`, and compares it with `served` and `best` if they exist.

    Args:
        examples: the same examples encoded by each model's spec, by the spec's hash.
        best: the best version of the window, if it is not `served`.

    Raises:
        ExportError: the candidate has no warm-up, its signatures disagree, or a version fails on the examples.
        DataError: clicks or non-clicks are missing.
    """
    own = examples[candidate.spec.hash]
    candidate.check_warmup()
    candidate.check_agreement(own.ids[:_AGREEMENT_ROWS], own.floats[:_AGREEMENT_ROWS])
    groups = Groups.of(own)

    def scores(model: Servable) -> F32:
        rows = examples[model.spec.hash]
        return model.scores(rows.ids, rows.floats)

    def measures(ctr: F32) -> Measures:
        return Measures(own.labels, ctr, groups.users, groups.requests)

    ctr = scores(candidate)
    evaluated, measured = _evaluated(candidate, own, ctr), measures(ctr)
    found = Evaluation(
        examples=len(own.labels),
        clicks=int(own.labels.sum()),
        groups=groups.counts,
        split=sha256(own.labels.tobytes()).hexdigest(),
        candidate=evaluated,
        estimates=estimates(measured),
    )
    if served is not None:
        others = scores(served)
        found = replace(
            found,
            served=_evaluated(served, examples[served.spec.hash], others),
            differences=differences(measured, measures(others)),
            score_drift=score_drift(ctr, others),
        )
    if best is not None:
        found = replace(found, best=str(best.path), best_differences=differences(measured, measures(scores(best))))
    if candidate.compute != "float32":
        exact = measures(candidate.float32_scores(own.ids, own.floats))
        found = replace(found, rounding=differences(measured, exact)["auc"])
    return found


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
        uncalibrated=figures(examples.labels, model.uncalibrated_scores(examples.ids, examples.floats))
        if model.is_calibrated
        else None,
    )
