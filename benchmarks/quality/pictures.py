"""Draws ROC, calibration and learning curves of one log's models, and AUC with intervals."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_curve

from benchmarks.quality.judging import TRUTH, Judgement
from benchmarks.quality.results import Results
from benchmarks.quality.tables import NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sandbox.world.population import F64

_BINS = 20
_FEW_BINS = 8  # for click rates; more bins would show noise


def roc(results: Results, judgement: Judgement, axes: "Axes") -> None:
    """True positive rate over false positive rate for every threshold."""
    given: dict[str, npt.NDArray[np.floating]] = dict(results.scores)
    if results.held_out.truth is not None:
        given[TRUTH] = results.held_out.truth
    for name, scores in given.items():
        wrong, right, _ = roc_curve(results.held_out.labels, scores)
        label = f"{NAMES[name]}, {judgement.judged[name].auc.value:.3f}"
        axes.plot(wrong, right, "k--" if name == TRUTH else "-", label=label, linewidth=1)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.5)
    axes.set(xlabel="share of non-clicks above the threshold", ylabel="share of clicks above the threshold")


def calibration(results: Results, _: Judgement, axes: "Axes") -> None:
    """Observed over predicted probability, in bins of equal count by score; 1 is perfect.

    The observed value is the mean of the true probabilities if they are known, else the click rate.
    """
    truth = results.held_out.truth
    bins, observed = (_FEW_BINS, "click rate") if truth is None else (_BINS, "mean true probability")
    for name, scores in results.scores.items():
        predicted, true = binned(scores, results.held_out.labels if truth is None else truth, bins=bins)
        axes.plot(predicted, true / predicted, "o-", markersize=3, linewidth=1, label=NAMES[name])
    axes.axhline(1, color="grey", linewidth=0.5)
    axes.set(xlabel="mean score of a bin", ylabel=f"{observed} / mean score")


def learning(results: Results, judgement: Judgement, axes: "Axes") -> None:
    """AUC on the first held-out rows, over the number of training rows seen."""
    for name, trial in results.trials.items():
        seen, aucs = zip(*trial.curve, strict=True)
        axes.plot(np.array(seen) / 1e6, aucs, "o-", markersize=3, linewidth=1, label=NAMES[name])
    if TRUTH in judgement.judged:
        value = judgement.judged[TRUTH].auc.value
        axes.axhline(value, color="black", linestyle="--", linewidth=1, label=NAMES[TRUTH])
    axes.set(xlabel="rows trained on, millions", ylabel="AUC on held-out rows")


def intervals(_: Results, judgement: Judgement, axes: "Axes") -> None:
    """AUC of each model with its 95 % interval."""
    names = [name for name in NAMES if name in judgement.judged]
    found = [judgement.judged[name].auc for name in names]
    values = np.array([interval.value for interval in found])
    ends = np.array([[interval.low, interval.high] for interval in found]).T
    axes.errorbar(values, range(len(names)), xerr=np.abs(ends - values), fmt="o", capsize=3)
    axes.set_yticks(range(len(names)), [NAMES[name] for name in names])
    axes.invert_yaxis()
    axes.set(xlabel="AUC, 95 % bootstrap interval")


PICTURES: Mapping[str, Mapping[str, tuple[str, Callable[[Results, Judgement, "Axes"], None]]]] = {
    "world": {
        "learning": ("Learning curves", learning),
        "roc": ("ROC", roc),
        "calibration": ("Calibration", calibration),
    },
    "avazu": {
        "roc": ("ROC", roc),
        "calibration": ("Calibration", calibration),
        "auc": ("AUC with intervals", intervals),
    },
}
"""By log and name: title, and drawing function."""


def binned(scores: npt.ArrayLike, truth: npt.ArrayLike, *, bins: int = _BINS) -> "tuple[F64, F64]":
    """Mean score and mean truth of `bins` bins of equal count, by score; float64 [bins] each."""
    order = np.argsort(np.asarray(scores), kind="stable")
    given, true = np.asarray(scores, np.float64)[order], np.asarray(truth, np.float64)[order]
    parts = [np.array([part.mean() for part in np.array_split(values, bins)]) for values in (given, true)]
    return parts[0], parts[1]


def draw(log: str, title: str, results: Results, judgement: Judgement, images: Path) -> list[tuple[str, str]]:
    """Draws the pictures of a log; returns file name and title of each."""
    # Imported here, so that the functions above work without matplotlib.
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    images.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, (kind, picture) in PICTURES.get(log, {}).items():
        figure, axes = plt.subplots(figsize=(8, 4), constrained_layout=True)
        picture(results, judgement, axes)
        axes.set_title(f"{kind}: {title[0].lower()}{title[1:]}" if log == "world" else f"{kind}: {title}")
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            figure.legend(fontsize=8, loc="outside right upper")
        drawn.append((f"quality_{log}_{name}.png", f"{kind}, {title}"))
        figure.savefig(images / drawn[-1][0], dpi=110)
        plt.close(figure)
    return drawn
