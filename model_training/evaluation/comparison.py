"""Measures of scores, and standard errors of them and of the difference of two models; pure.

All models score the same examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import entr, stdtrit

from model_training.evaluation.metrics import losses
from streamer.types import F64

Codes = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure on a sample, or a difference of two, with its standard error.

    Attributes:
        error: standard error; 0 for two models of the same scores, NaN with fewer than two clicks or non-clicks.
        freedom: degrees of freedom of the error: units with a click, or those with a non-click if they are fewer, - 1.
    """

    value: float
    error: float
    freedom: int

    def interval(self, confidence: float) -> tuple[float, float]:
        """The two-sided interval by Student's t distribution; NaN if the error is not known."""
        if self.freedom < 1:
            return float("nan"), float("nan")
        width = float(stdtrit(self.freedom, (1 + confidence) / 2)) * self.error
        return self.value - width, self.value + width


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
        self._order = np.argsort(given)
        self._ties = _starts(given[self._order])
        self._truth, self._scores = truth, given
        self._losses = losses(truth, given)
        self._units = units_of(users, requests)
        self.units = len(truth) if self._units is None else int(self._units.max()) + 1
        rankings = (("gauc", users), ("request_gauc", requests))
        self._rankings = {
            name: found for name, groups in rankings if (found := self._ranking(groups, truth, given)) is not None
        }

    def of(self, counts: F64) -> dict[str, float]:
        """All measures, each unit weighted by `counts` [units]; NaN without clicks or non-clicks.

        `normalised_entropy` is the log loss divided by that of the constant score that equals the click rate; a model
        that knows nothing has 1 (He et al.: Practical Lessons from Predicting Clicks on Ads at Facebook, 2014).
        `gauc` is the mean of the users' AUC weighted by their impressions, without users that have only clicks or only
        non-clicks (Zhou et al.: Deep Interest Network, 2018), and without impressions that have no user; `request_gauc`
        is the same by request. They are omitted if no user, or no request, has both.
        """
        weights = counts if self._units is None else counts[self._units]
        clicks, others = self._tied(weights)
        total_clicks, total_others = clicks.sum(), others.sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            found = {
                "auc": _pairs_won(clicks, others) / (total_clicks * total_others),
                "log_loss": (weights @ self._losses) / weights.sum(),
                "calibration": (weights @ self._scores) / total_clicks,
            }
            found["normalised_entropy"] = found["log_loss"] / _entropy(total_clicks / weights.sum())
            for name, (aucs, impressions, units) in self._rankings.items():
                shares = impressions * counts[units]
                found[name] = (shares @ aucs) / shares.sum()
        return {name: float(value) for name, value in found.items()}

    @cached_property
    def whole(self) -> Mapping[str, float]:
        """All measures of the sample."""
        return self.of(np.ones(self.units))

    @cached_property
    def influences(self) -> Mapping[str, F64]:
        """The derivative of each measure by the weight of each unit, float64 [units]; all weights 1.

        The sum of their squares is the variance that a bootstrap of the units has in the limit (Efron: The Jackknife,
        the Bootstrap and Other Resampling Plans, 1982, chapter 6). For the AUC it is the variance of DeLong et al.
        (1988), and with users that of Obuchowski: Nonparametric Analysis of Clustered ROC Curve Data (1997).
        """
        whole, truth, n = self.whole, self._truth, len(self._truth)
        clicks, others = self._tied(np.ones(n))
        total_clicks, total_others = clicks.sum(), others.sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            # Of each score: the share of non-clicks below it, and of clicks above it.
            below = (np.cumsum(others) - others / 2) / total_others
            above = 1 - (np.cumsum(clicks) - clicks / 2) / total_clicks
            of_rows = np.repeat(np.arange(len(self._ties)), np.diff(self._ties, append=n))
            won = np.empty(n)
            won[self._order] = np.where(truth[self._order] > 0, below[of_rows], above[of_rows])
            auc = (won - whole["auc"]) / np.where(truth > 0, total_clicks, total_others)
            loss, rate = (self._losses - whole["log_loss"]) / n, total_clicks / n
            entropy = np.log((1 - rate) / rate) * (truth - rate) / n
            rows = {
                "auc": auc,
                "log_loss": loss,
                "calibration": (self._scores - whole["calibration"] * truth) / total_clicks,
                "normalised_entropy": (loss - whole["normalised_entropy"] * entropy) / _entropy(rate),
            }
            found = {
                name: part if self._units is None else self._sums(self._units, part) for name, part in rows.items()
            }
            for name, (aucs, impressions, units) in self._rankings.items():
                found[name] = self._sums(units, impressions * (aucs - whole[name]) / impressions.sum())
        return found

    @cached_property
    def freedom(self) -> int:
        """Units with a click, or those with a non-click if they are fewer, - 1."""
        owners = np.arange(self.units) if self._units is None else self._units
        return min(len(np.unique(owners[self._truth == label])) for label in (0, 1)) - 1

    def freedom_of(self, measure: str) -> int:
        """As `freedom`; of a GAUC at most the units of groups with an AUC, - 1."""
        ranking = self._rankings.get(measure)
        return self.freedom if ranking is None else min(self.freedom, len(np.unique(ranking[2])) - 1)

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

    def _sums(self, units: Codes, parts: F64) -> F64:
        return np.bincount(units, parts, self.units).astype(np.float64)

    def _tied(self, weights: F64) -> tuple[F64, F64]:
        """Weights of clicks and of non-clicks of each distinct score, in order of rising score."""
        ordered = weights[self._order]
        clicks = ordered * self._truth[self._order]
        clicks, others = (np.add.reduceat(part, self._ties) for part in (clicks, ordered - clicks))
        return clicks, others


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
    rank = np.empty(len(scores), np.int64)
    rank[np.argsort(scores)] = np.arange(len(scores))
    # Unique keys, so that numpy's fastest sort will do: four times faster than `lexsort`.
    order = np.argsort(users * len(scores) + rank)
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


def estimates(measures: Measures) -> dict[str, Estimate]:
    """Each measure with its standard error; users, if they are known, are the independent units."""
    return _estimates(measures.whole, measures.influences, measures)


def differences(candidate: Measures, other: Measures) -> dict[str, Estimate]:
    """Differences candidate - other of all measures, with paired standard errors.

    Both models are measured on the same units. If users are known, a unit is a user, because the impressions of one
    user are not independent.
    """
    values = {name: value - other.whole[name] for name, value in candidate.whole.items()}
    return _estimates(values, {name: candidate.influences[name] - other.influences[name] for name in values}, candidate)


def _estimates(values: Mapping[str, float], influences: Mapping[str, F64], measures: Measures) -> dict[str, Estimate]:
    found = {}
    for name, value in values.items():
        freedom, error = measures.freedom_of(name), float("nan")
        if freedom >= 1:
            error = float(np.sqrt(measures.units / (measures.units - 1)) * np.linalg.norm(influences[name]))
        found[name] = Estimate(value, error, max(freedom, 0))
    return found


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


def _entropy(rate: F64) -> F64:
    """The log loss of the constant score that equals the click rate, in nats."""
    return np.asarray(entr(rate) + entr(1 - rate))
