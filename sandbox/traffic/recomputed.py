"""Compares the scores of requests by id with those of their ads as the topic had them. Pure.

The scores are computed again from the values at the answer's position, sent as rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from sandbox.traffic.ad_history import AdHistory
from sandbox.traffic.checker import Sample, ScoredById
from sandbox.world.world import World
from streamer.types import F32, BidRequest

MAX_SCORE_DIFFERENCE = 1e-6
_EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class Question:
    """A request with the values of its ads at the answer's position; `version`: of the model."""

    request: BidRequest
    version: int


@dataclass(frozen=True, slots=True)
class Recomputed:
    """The comparison.

    Attributes:
        answers, candidates: number of those compared.
        changed: candidates whose ad had changed after the catalogue; unknown: those that the topic did not have.
        max_difference: largest |served - computed again|; behind: largest number of records behind the topic's end.
        wrong: answers with a difference above `MAX_SCORE_DIFFERENCE`, or with a position that the topic never had.
        examples: the first of them, one line each.
    """

    answers: int
    candidates: int
    changed: int
    unknown: int
    max_difference: float
    behind: int
    wrong: int
    examples: tuple[str, ...]


def question(world: World, sample: Sample, history: AdHistory) -> Question:
    """What to score again. An ad that the topic did not have has its id only."""
    by_id = _of(sample)
    ids = world.ads.ids
    rows = [history.at(ad, by_id.positions) or orjson.dumps({"ad_id": ids[ad]}) for ad in sample.ads.tolist()]
    document = world.document(sample.user, sample.contexts)
    return Question(BidRequest(by_id.request_id, document, len(rows), rows=rows), by_id.version)


def compared(world: World, samples: Sequence[Sample], scores: Sequence[F32], history: AdHistory) -> Recomputed:
    """Compares the samples with the scores of their questions; float32 [n] each."""
    candidates = changed = unknown = behind = wrong = 0
    largest, examples = 0.0, list[str]()
    for sample, again in zip(samples, scores, strict=True):
        by_id, ads = _of(sample), sample.ads.tolist()
        difference = np.where(by_id.is_scored, np.abs(sample.ctr - again), 0.0)
        worst = int(difference.argmax())
        candidates += int(by_id.is_scored.sum())
        changed += sum(history.changes_before(ad, by_id.positions) > 0 for ad in ads)
        unknown += sum(history.at(ad, by_id.positions) is None for ad in ads)
        largest, behind = max(largest, float(difference[worst])), max(behind, by_id.behind)
        is_beyond = any(at > end for at, end in zip(by_id.positions, history.ends, strict=True))
        if is_beyond or not difference[worst] <= MAX_SCORE_DIFFERENCE:
            wrong += 1
            examples.append(
                f"{by_id.request_id}: {world.ads.ids[ads[worst]]} has {sample.ctr[worst]:.8f}, computed again"
                f" {again[worst]:.8f}, at {list(by_id.positions)} of {list(history.ends)}"
            )
    return Recomputed(len(samples), candidates, changed, unknown, largest, behind, wrong, tuple(examples[:_EXAMPLES]))


def _of(sample: Sample) -> ScoredById:
    assert sample.by_id is not None, "a checker with a history keeps it"
    return sample.by_id
