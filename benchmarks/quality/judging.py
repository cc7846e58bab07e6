"""Evaluates the models of one log, and finds the differences beyond chance. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from benchmarks.quality.results import Results
from model_training.evaluation.comparison import Measures, calibration_error, resampled

BASELINE, TRUTH = "logistic_regression", "truth"
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A measure on all held-out rows, and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Judged:
    """Measures of one model; `calibration_error` in 20 bins of equal count."""

    auc: Interval
    log_loss: Interval
    gauc: Interval
    calibration_error: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """Measures of all models of a log.

    Attributes:
        judged: by model; includes `truth` if it is known.
        above: pairs (better, worse) of models with an AUC difference beyond chance: the intervals of all pairs'
            differences hold together with 95 %.
        pairs: number of pairs.
        judged_users: number of users with both clicks and non-clicks: only they have an AUC.
    """

    judged: Mapping[str, Judged]
    above: tuple[tuple[str, str], ...]
    pairs: int
    judged_users: int

    def closed(self, model: str) -> float:
        """The share of the gap between the baseline's AUC and the truth's that `model` closes."""
        low, high = self.judged[BASELINE].auc.value, self.judged[TRUTH].auc.value
        return (self.judged[model].auc.value - low) / (high - low)


def judge(results: Results, *, resamples: int, seed: int = 1) -> Judgement:
    """Evaluates by bootstrap over users, with the same resamples for all models."""
    held_out = results.held_out
    scores: dict[str, npt.NDArray[np.floating]] = dict(results.scores)
    if held_out.truth is not None:
        scores[TRUTH] = held_out.truth
    measures = {name: Measures(held_out.labels, given, held_out.users) for name, given in scores.items()}
    drawn = resampled(list(measures.values()), resamples=resamples, seed=seed)
    judged = {}
    for i, (name, model) in enumerate(measures.items()):
        whole = model.of(np.ones(model.units))
        intervals = {
            measure: _interval(whole[measure], drawn[measure][:, i]) for measure in ("auc", "log_loss", "gauc")
        }
        judged[name] = Judged(**intervals, calibration_error=calibration_error(held_out.labels, scores[name]))
    values = {name: judged[name].auc.value for name in results.scores}
    above = ordered(values, drawn["auc"][:, : len(values)])
    return Judgement(
        judged, above, len(values) * (len(values) - 1) // 2, _users_with_both(held_out.labels, held_out.users)
    )


def ordered(values: Mapping[str, float], drawn: npt.NDArray[np.float64]) -> tuple[tuple[str, str], ...]:
    """Pairs (better, worse) with a difference beyond chance, from `drawn` [resamples, models].

    With m pairs each interval has confidence 1 - 0.05 / m (Bonferroni), so that all hold together with 95 %.
    """
    names = list(values)
    pairs = list(combinations(range(len(names)), 2))
    found = []
    for i, j in pairs:
        difference = values[names[i]] - values[names[j]]
        width = NormalDist().inv_cdf(1 - (1 - _CONFIDENCE) / (2 * len(pairs)))
        if abs(difference) > width * float(np.nanstd(drawn[:, i] - drawn[:, j], ddof=1)):
            found.append((names[i], names[j]) if difference > 0 else (names[j], names[i]))
    return tuple(found)


def _interval(value: float, drawn: npt.NDArray[np.float64]) -> Interval:
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def _users_with_both(labels: npt.ArrayLike, users: npt.NDArray[np.intp]) -> int:
    clicked = np.asarray(labels) > 0
    return len(np.intersect1d(users[clicked], users[~clicked]))
