"""Quality of click probabilities on labelled examples, with scikit-learn's formulas."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from model_training.errors import DataError
from streamer.types import F32

_EDGE = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, slots=True)
class Quality:
    """The quality of n scores.

    Attributes:
        auc: area under the ROC curve, in [0, 1].
        log_loss: mean over the examples, in nats.
        calibration: sum of the scores / number of clicks; 1 is right, above 1 the scores are too high.
    """

    examples: int
    positives: int
    auc: float
    log_loss: float
    calibration: float


def recalibrated(ctr: F32, negative_sampling_rate: float) -> F32:
    """Corrects scores if training kept a share q of non-clicks: p / (p + (1 - p) / q).

    An exported model makes the same correction (He et al.: Practical Lessons from Predicting Clicks on Ads at Facebook,
    2014, section 6.3).
    """
    scores = ctr.astype(np.float64)
    return (scores / (scores + (1 - scores) / negative_sampling_rate)).astype(np.float32)


def losses(labels: npt.ArrayLike, ctr: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The log loss of each score, float64 [n], in nats.

    Training's report, early stopping, comparison and gate all use it. Scores are float32, so they are clipped by its
    epsilon, as scikit-learn clips float32: the largest loss is 15.9.
    """
    clipped = np.clip(np.asarray(ctr, np.float64), _EDGE, 1 - _EDGE)
    return -np.where(np.asarray(labels) > 0, np.log(clipped), np.log1p(-clipped))


def evaluate(labels: npt.ArrayLike, ctr: F32, weights: F32 | None = None) -> Quality:
    """The quality of `ctr` [n], in [0, 1], for `labels` [n], 0 or 1.

    Args:
        weights: [n], how much each example counts in AUC, log loss and calibration; by default 1.

    Raises:
        DataError: the lengths differ, a score is not in [0, 1], or clicks or non-clicks are missing.
    """
    truth = np.asarray(labels)
    scores = np.asarray(ctr, dtype=np.float64)
    if truth.shape != scores.shape:
        raise DataError(f"{len(scores)} scores for {len(truth)} labels")
    if not np.all((scores >= 0) & (scores <= 1)):
        raise DataError("a score is not in [0, 1]")
    positives = int(truth.sum())
    if positives in (0, len(truth)):
        raise DataError(f"{positives} clicks among {len(truth)} examples: both classes are needed to evaluate a model")
    counting = np.ones(len(truth)) if weights is None else np.asarray(weights, np.float64)
    return Quality(
        examples=len(truth),
        positives=positives,
        auc=float(roc_auc_score(truth, scores, sample_weight=weights)),
        log_loss=float(np.average(losses(truth, scores), weights=weights)),
        calibration=float(scores @ counting / (truth @ counting)),
    )
