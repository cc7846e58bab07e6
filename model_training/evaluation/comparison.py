"""Measures of scores, and intervals for the difference of two models; pure.

Both models score the same examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

_EDGE = 1e-7


@dataclass(frozen=True, slots=True)
class Difference:
    """A measure of the candidate and the served model; the interval of candidate - served."""

    candidate: float
    served: float
    low: float
    high: float


class Measures:
    """The measures of one model's scores, for any weights of the units.

    A unit is a user with all impressions; an impression without user belongs to the unit of its request, and without
    both it is a unit of its own.

    Args:
        labels: [n], 0 or 1.
        scores: [n], in [0, 1].
        users, requests: [n], those of each impression as numbers from 0, and -1 for an impression without id; None if
            they are not known.
    """

    def __init__(
        self,
        labels: npt.ArrayLike,
        scores: npt.ArrayLike,
        users: Codes | None = None,
        requests: Codes | None = None,
    ) -> None:
        truth, given = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
        self._order = np.argsort(given, kind="stable")
        self._ties = _starts(given[self._order])
        self._truth, self._scores = truth, given
        clipped = np.clip(given, _EDGE, 1 - _EDGE)
        self._losses = -np.where(truth > 0, np.log(clipped), np.log1p(-clipped))
        self._units = units_of(users, requests)
        self.units = len(truth) if self._units is None else int(self._units.max()) + 1
        rankings = (("gauc", users), ("request_gauc", requests))
        self._rankings = {
            name: found for name, groups in rankings if (found := self._ranking(groups, truth, given)) is not None
        }

    def of(self, counts: F64) -> dict[str, float]:
        """All measures, each unit weighted by `counts` [units]; NaN without clicks or non-clicks.

        `gauc` is the mean of the users' AUC weighted by their impressions, without users that have only clicks or only
        non-clicks (Zhou et al.: Deep Interest Network, 2018), and without impressions that have no user; `request_gauc`
        is the same by request. They are omitted if no user, or no request, has both.
        """
        weights = counts if self._units is None else counts[self._units]
        ordered = weights[self._order]
        clicks = ordered * self._truth[self._order]
        clicks, others = (np.add.reduceat(part, self._ties) for part in (clicks, ordered - clicks))
        total_clicks, total_others = clicks.sum(), others.sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            found = {
                "auc": _pairs_won(clicks, others) / (total_clicks * total_others),
                "log_loss": (weights @ self._losses) / weights.sum(),
                "calibration": (weights @ self._scores) / total_clicks,
            }
            for name, (aucs, impressions, units) in self._rankings.items():
                shares = impressions * counts[units]
                found[name] = (shares @ aucs) / shares.sum()
        return {name: float(value) for name, value in found.items()}

    def _ranking(self, groups: Codes | None, labels: F64, scores: F64) -> tuple[F64, F64, Codes] | None:
        """AUC, impressions and unit of each group with both classes; None if there is none."""
        if groups is None or self._units is None:
            return None
        rows = np.flatnonzero(groups >= 0)
        codes = groups[rows]
        aucs, impressions = user_aucs(labels[rows], scores[rows], codes)
        units = np.zeros(len(aucs), np.intp)
        units[codes] = self._units[rows]
        defined = ~np.isnan(aucs)
        return (aucs[defined], impressions[defined], units[defined]) if defined.any() else None


def units_of(users: Codes | None, requests: Codes | None) -> Codes | None:
    """The unit of each impression, [n] numbers from 0; None if each impression is its own."""
    known = [codes for codes in (requests, users) if codes is not None]
    if not known:
        return None
    keys = np.arange(len(known[0]))
    for codes in known:
        keys = np.where(codes >= 0, codes + keys.max(initial=0) + 1, keys)
    return np.unique(keys, return_inverse=True)[1].astype(np.intp)


def user_aucs(labels: F64, scores: F64, users: Codes) -> tuple[F64, F64]:
    """Each user's AUC, NaN without both classes, and number of impressions; both [users]."""
    order = np.lexsort((scores, users))
    who, given, truth = users[order], scores[order], labels[order]
    ties = _starts(who, given)
    clicks, others = np.add.reduceat(truth, ties), np.add.reduceat(1 - truth, ties)
    owners = who[ties]
    # Non-clicks of the same user with a lower score.
    before = np.cumsum(others) - others
    firsts = np.searchsorted(owners, owners)
    won = clicks * (before - before[firsts] + others / 2)
    n = int(users.max()) + 1
    wins, positives, negatives = (np.bincount(owners, part, minlength=n) for part in (won, clicks, others))
    with np.errstate(invalid="ignore"):
        aucs: F64 = wins / (positives * negatives)
    return aucs, (positives + negatives).astype(np.float64)


def differences(
    candidate: Measures, served: Measures, *, resamples: int, confidence: float, seed: int = 1
) -> dict[str, Difference]:
    """Differences of all measures, with intervals by a paired percentile bootstrap.

    Both models are measured on the same resamples of the same units. If users are known, a unit is a user, because the
    impressions of one user are not independent.
    Efron and Tibshirani: An Introduction to the Bootstrap (1993), chapter 13.
    """
    models = candidate, served
    whole = [model.of(np.ones(model.units)) for model in models]
    tail = (1 - confidence) / 2
    result = {}
    for name, found in resampled(models, resamples=resamples, seed=seed).items():
        low, high = np.nanquantile(found[:, 0] - found[:, 1], [tail, 1 - tail])
        result[name] = Difference(whole[0][name], whole[1][name], float(low), float(high))
    return result


def resampled(models: Sequence[Measures], *, resamples: int, seed: int = 1) -> dict[str, F64]:
    """Each measure on common bootstrap resamples of the units, float64 [resamples, models]."""
    rng = np.random.default_rng(seed)
    units = models[0].units
    found = []
    for _ in range(resamples):
        counts = np.bincount(rng.integers(0, units, units), minlength=units).astype(np.float64)
        found.append([model.of(counts) for model in models])
    return {name: np.array([[one[name] for one in row] for row in found]) for name in found[0][0]}


def calibration_error(labels: npt.ArrayLike, scores: npt.ArrayLike, *, bins: int = 20) -> float:
    """Expected calibration error: mean |mean score - click rate| over equal-count `bins`.

    The bins divide the examples in order of score.
    """
    order = np.argsort(np.asarray(scores), kind="stable")
    truth, given = np.asarray(labels, np.float64)[order], np.asarray(scores, np.float64)[order]
    parts = zip(np.array_split(truth, bins), np.array_split(given, bins), strict=True)
    return float(sum(abs(part.sum() - clicks.sum()) for clicks, part in parts) / max(1, len(truth)))


def score_drift(scores: npt.ArrayLike, reference: npt.ArrayLike, *, bins: int = 10) -> float:
    """Population stability index of scores against a reference: 0 if they are alike.

    Σ (p - q) ln(p / q) over the quantiles of the reference. By convention, below 0.1 is a small shift and above 0.25 a
    large one. An empty bin counts as half a score.
    """
    known, given = np.asarray(reference, np.float64), np.asarray(scores, np.float64)
    edges = np.quantile(known, np.arange(1, bins) / bins)
    shares = []
    for values in (given, known):
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=bins)
        shares.append(np.maximum(counts, 0.5) / len(values))
    p, q = shares
    return float(((p - q) * np.log(p / q)).sum())


def _pairs_won(clicks: F64, others: F64) -> float:
    """Pairs in which the click scores higher than the non-click; ties count half.

    The inputs are in order of rising score.
    """
    return float((clicks * (np.cumsum(others) - others / 2)).sum())


def _starts(*sorted_keys: Sequence[object] | npt.NDArray[np.generic]) -> Codes:
    """The start index of each run of equal keys."""
    keys = [np.asarray(key) for key in sorted_keys]
    changes = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return np.concatenate([[0], np.flatnonzero(changes) + 1]).astype(np.intp)
