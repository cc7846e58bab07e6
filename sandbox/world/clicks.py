"""Draws clicks by probability, and measures scores against them."""

from typing import Any

import numpy as np
import numpy.typing as npt


def draw_clicks(rng: np.random.Generator, ctr: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """Independent clicks by probability; int8 of the same shape."""
    return (rng.random(ctr.shape) < ctr).astype(np.int8)


def auc(clicked: npt.NDArray[Any], scores: npt.NDArray[Any]) -> float:
    """Area under the ROC curve; NaN if there are no clicks, or only clicks."""
    # Imported here: a program that only sends traffic does not need scikit-learn.
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415

    flat = clicked.ravel()
    if not 0 < flat.sum() < flat.size:
        return float("nan")
    return float(roc_auc_score(flat, scores.ravel()))
