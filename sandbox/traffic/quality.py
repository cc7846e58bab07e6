"""Quality of served scores, measured on clicks that are drawn from the true probabilities."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sandbox.traffic.checker import Sample
from sandbox.world.clicks import auc, draw_clicks
from sandbox.world.population import F64
from sandbox.world.world import World


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality of the served scores on clicks drawn from the true probabilities.

    Attributes:
        served, bayes: AUC of the served scores and of the true probabilities on the same clicks; NaN without clicks.
        baseline: AUC of the baseline on the same clicks; NaN without a baseline.
        mean_ctr, mean_served: mean true and mean served probability.
    """

    served: float
    bayes: float
    baseline: float
    impressions: int
    clicks: int
    mean_ctr: float
    mean_served: float


Documents = list[Mapping[str, object]]
ScoreFunction = Callable[[Documents, Documents, list[int]], npt.NDArray[np.floating[Any]]]
"""Scores n candidates of m requests: takes the documents, the candidates, and the number of candidates per request."""


def quality(
    world: World, samples: tuple[Sample, ...], *, shown: int = 100, seed: int = 0, baseline: ScoreFunction | None = None
) -> Quality:
    """Draws clicks for up to `shown` candidates of each sample; computes the AUC of each score."""
    rng = np.random.default_rng([world.seed, 3, seed])
    served: list[F64] = [np.empty(0)]
    truth: list[F64] = [np.empty(0)]
    documents: Documents = []
    candidates: Documents = []
    counts: list[int] = []
    for sample in samples:
        chosen = rng.permutation(len(sample.ads))[:shown]
        served.append(sample.ctr[chosen])
        truth.append(world.true_ctr(sample.user, sample.contexts, sample.ads[chosen]))
        if baseline is not None:
            documents.append(world.document(sample.user, sample.contexts))
            counts.append(len(chosen))
            candidates += [world.ad(index) for index in sample.ads[chosen].tolist()]
    scores, ctr = np.concatenate(served), np.concatenate(truth)
    clicked = draw_clicks(rng, ctr)
    if not len(ctr):
        return Quality(float("nan"), float("nan"), float("nan"), 0, 0, float("nan"), float("nan"))
    return Quality(
        served=auc(clicked, scores),
        bayes=auc(clicked, ctr),
        baseline=float("nan") if baseline is None else auc(clicked, baseline(documents, candidates, counts)),
        impressions=len(ctr),
        clicks=int(clicked.sum()),
        mean_ctr=float(ctr.mean()),
        mean_served=float(scores.mean()),
    )
