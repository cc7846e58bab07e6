"""Impressions with known probabilities, and models of a known AUC. Pure.

The log-odds of an impression are normally distributed, half of their variance by user. A model sees them with an error,
half of it by user, and returns the exact probability of a click given what it sees: it is calibrated, and the variance
of its error alone decides its AUC. Two models share an error, as two models of the same features do, and each has one
of its own, as from another seed.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit

F64 = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

CLICK_RATE = 0.2
IMPRESSIONS = 10
"""Impressions of each user."""
_SPREAD, _SHARED, _OWN = 1.44, 0.45, 0.08
_GRID = np.linspace(-9, 9, 721)
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(31)


@dataclass(frozen=True, slots=True)
class Split:
    """Labelled impressions.

    Attributes:
        labels, users: [n].
        seen: [n], the log-odds with the error that all models share, around 0.
    """

    labels: npt.NDArray[np.int8]
    users: Codes
    seen: F64

    def scores(self, loss: float, rng: np.random.Generator) -> F64:
        """Probabilities, [n], by a model whose AUC is that of the reference model - `loss`."""
        own = own_error(loss)
        seen = self.seen + _by_user(own, self.users, rng)
        return np.interp(seen, *_curve(_SHARED + own))


def draw(clicks: int, rng: np.random.Generator) -> Split:
    """A split with about this number of clicks."""
    n = max(1, round(clicks / CLICK_RATE / IMPRESSIONS)) * IMPRESSIONS
    users = np.repeat(np.arange(n // IMPRESSIONS), IMPRESSIONS)
    odds = _by_user(_SPREAD, users, rng)
    labels = (rng.random(n) < expit(_intercept() + odds)).astype(np.int8)
    return Split(labels, users, odds + _by_user(_SHARED, users, rng))


def noise(split: Split, rng: np.random.Generator) -> F64:
    """Scores that have nothing to do with the impressions, but the mean of the split; [n]."""
    scores = np.exp(rng.normal(0, 0.3, len(split.labels)))
    return np.asarray(scores * split.labels.mean() / scores.mean())


@cache
def own_error(loss: float) -> float:
    """The variance of a model's own error that lowers its AUC by `loss`, or raises it."""
    wanted = true_auc(_SHARED + _OWN) - loss
    return float(brentq(lambda own: true_auc(_SHARED + own) - wanted, 0, 5))


@cache
def true_auc(error: float) -> float:
    """The AUC of a model with this variance of its error, in the limit of many impressions."""
    seen, probability = _curve(error)
    density = np.exp(-(seen**2) / (2 * (_SPREAD + error)))
    clicks, others = density * probability, density * (1 - probability)
    below = np.cumsum(others) - others / 2
    return float((clicks * below).sum() / (clicks.sum() * others.sum()))


@cache
def _curve(error: float) -> tuple[F64, F64]:
    """What a model sees, and the probability of a click given that."""
    share = _SPREAD / (_SPREAD + error)
    left = np.sqrt(_SPREAD * (1 - share))
    given = expit(_intercept() + share * _GRID[:, None] + left * _NODES)
    return _GRID, given @ _WEIGHTS / _WEIGHTS.sum()


@cache
def _intercept() -> float:
    """The log-odds in the middle, at which the mean probability is the click rate."""
    spread = np.sqrt(_SPREAD) * _NODES
    return float(brentq(lambda middle: expit(middle + spread) @ _WEIGHTS / _WEIGHTS.sum() - CLICK_RATE, -9, 0))


def _by_user(variance: float, users: Codes, rng: np.random.Generator) -> F64:
    """Normal numbers, [n], with half of their variance by user."""
    spread = np.sqrt(variance / 2)
    by_user = rng.standard_normal(int(users[-1]) + 1)[users]
    return np.asarray(spread * (by_user + rng.standard_normal(len(users))))
