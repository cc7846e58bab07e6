"""Fits the map from scores to click rates, on examples that the model has not learnt."""

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import isotonic_regression
from sklearn.linear_model import LogisticRegression

from model_training.calibration import (
    Calibration,
    CalibrationKind,
    Figures,
    Isotonic,
    Platt,
    calibrated,
    log_odds,
)
from model_training.errors import DataError
from model_training.evaluation.comparison import calibration_error
from model_training.evaluation.metrics import evaluate
from streamer.types import F32, F64

_BINS, _BIN_CLICKS = 100, 10
"""At most so many bins, with so many clicks in the mean: smaller ones would fit chance."""
_MIN_STEP = 1e-3
"""Points that are closer make the map so steep that rounding errors of a score become visible."""


def fitted(kind: CalibrationKind, labels: npt.ArrayLike, ctr: F32, sampling_rate: float) -> Calibration:
    """The map of this kind for scores `ctr` [n] of examples with these `labels` [n], 0 or 1.

    Args:
        sampling_rate: share of the non-clicks that the training examples kept, relative to these; `ctr` is corrected
            by it.

    Raises:
        DataError: clicks or non-clicks are missing, or higher scores do not have more clicks.
    """
    truth = np.asarray(labels, np.float64)
    before = figures(labels, ctr)
    way = platt(truth, log_odds(ctr)) if kind == "platt" else isotonic(truth, log_odds(ctr))
    after = figures(labels, calibrated(way, ctr))
    return Calibration(way, sampling_rate, len(truth), int(truth.sum()), before, after)


def platt(labels: F64, odds: F64) -> Platt:
    """Logistic regression of `labels` [n] on log `odds` [n], without a penalty.

    Raises:
        DataError: higher scores do not have more clicks.
    """
    regression = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(odds[:, None], labels)
    scale, offset = float(regression.coef_[0, 0]), float(regression.intercept_[0])
    if not scale > 0:
        raise DataError(f"{_NO_ORDER} (scale {scale:g})")
    return Platt(scale, offset)


def isotonic(labels: F64, odds: F64) -> Isotonic:
    """Centred isotonic regression of `labels` [n] on log `odds` [n].

    Bins of equal count are pooled until their click rates rise (Zadrozny and Elkan: Transforming Classifier Scores into
    Accurate Multiclass Probability Estimates, 2002). Each pool is a point at its mean log odds, so the map has no flat
    parts (Oron and Flournoy: Centered Isotonic Regression, 2017). Each pool has clicks and non-clicks.

    Raises:
        DataError: there is only one pool: higher scores do not have more clicks.
    """
    order = np.argsort(odds, kind="stable")
    parts = np.split(order, _cuts(odds[order], min(_BINS, max(2, int(labels.sum()) // _BIN_CLICKS))))
    counts = np.array([len(part) for part in parts], np.float64)
    sums = np.array([odds[part].sum() for part in parts])
    clicks = np.array([labels[part].sum() for part in parts])
    rates = isotonic_regression(clicks / counts, sample_weight=counts)
    pool = np.cumsum(np.diff(rates, prepend=rates[0]) > 0)
    if rates[0] == 0:
        pool = np.maximum(pool - 1, 0)
    if rates[-1] == 1:
        pool = np.minimum(pool, max(0, int(pool[-1]) - 1))
    of_pools = [np.bincount(pool, values) for values in (counts, sums, clicks)]
    apart = list[tuple[float, float, float]]()
    for count, total, clicked in zip(*(values.tolist() for values in of_pools), strict=True):
        if apart and total / count - apart[-1][1] / apart[-1][0] <= _MIN_STEP:
            before = apart.pop()
            apart.append((before[0] + count, before[1] + total, before[2] + clicked))
        else:
            apart.append((count, total, clicked))
    if len(apart) < 2:
        raise DataError(_NO_ORDER)
    inputs = tuple(total / count for count, total, _ in apart)
    outputs = tuple(float(np.log(clicked) - np.log(count - clicked)) for count, _, clicked in apart)
    return Isotonic(inputs, outputs)


def _cuts(ordered: F64, bins: int) -> list[int]:
    """Where bins of about equal count begin; never between equal values."""
    ends = np.cumsum([len(part) for part in np.array_split(ordered, bins)])[:-1]
    ends = ends[ends < len(ordered)]
    first, behind = (np.searchsorted(ordered, ordered[ends], side) for side in ("left", "right"))
    cuts = np.unique(np.where(first > 0, first, behind))
    return [int(cut) for cut in cuts if 0 < cut < len(ordered)]


_NO_ORDER = "export.calibration: the model's higher scores do not have more clicks among the validation examples"


def figures(labels: npt.ArrayLike, ctr: F32) -> Figures:
    """The figures of scores `ctr` [n] for `labels` [n], 0 or 1.

    Raises:
        DataError: clicks or non-clicks are missing.
    """
    quality = evaluate(labels, ctr)
    return Figures(quality.log_loss, quality.calibration, calibration_error(labels, ctr))
