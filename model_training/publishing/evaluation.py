"""The figures of a candidate, alone and against earlier versions; pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from model_training.calibration import Figures
from model_training.config.training import Compute
from model_training.evaluation.comparison import Estimate
from model_training.evaluation.groups import GroupCounts


@dataclass(frozen=True, slots=True)
class ModelEvaluation:
    """The evaluation of one model.

    Attributes:
        calibration: sum of the scores / clicks.
        calibration_error: expected calibration error in 20 bins of equal count.
        compute: number format of the dense layers.
        uncalibrated: figures of its scores without the calibration that it has; None for a version without.
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
    uncalibrated: Figures | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The evaluation of a candidate.

    Attributes:
        split: identifies the examples, whatever spec encodes them.
        estimates: the candidate's measures: `auc`, `log_loss`, `normalised_entropy`, `calibration`, and if they are
            known `gauc` and `request_gauc`.
        served: None if no version is served yet; then `differences` is empty and `score_drift` is None.
        differences: candidate - served, by measure.
        best: path of the best version of the window; None if it is the served one, or not known.
        best_differences: candidate - best, by measure.
        rounding: AUC of a candidate that computes in bfloat16 - that of the same weights in float32; None for a
            candidate in float32.
    """

    examples: int
    clicks: int
    groups: GroupCounts
    split: str
    candidate: ModelEvaluation
    estimates: Mapping[str, Estimate]
    served: ModelEvaluation | None = None
    differences: Mapping[str, Estimate] = field(default_factory=dict)
    score_drift: float | None = None
    best: str | None = None
    best_differences: Mapping[str, Estimate] = field(default_factory=dict)
    rounding: Estimate | None = None
