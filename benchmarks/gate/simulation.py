"""Rates of wrong decisions of the former gate and of this one. Pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.gate.gates import LIMITS, evaluation, measured, passed_formerly, passes
from benchmarks.gate.world import F64, Split, draw, noise
from model_training.publishing.evaluation import Evaluation
from model_training.publishing.gate import corrected_confidence, is_better

STEPS = 20
"""Tries on one split, or successive publications."""
_LIMIT = LIMITS.max_auc_loss or 0.0

Wrong = tuple[bool, bool]
"""Whether the former gate, and this one, decided wrongly."""
Scenario = Callable[[int, np.random.Generator], Wrong]


@dataclass(frozen=True, slots=True)
class Rate:
    """Shares of wrong decisions of the former gate and of this one."""

    before: float
    after: float


def runs_of(name: str, gates: int) -> int:
    """How many runs of a scenario have this number of gates: a run has one, or `STEPS`."""
    return max(1, gates // STEPS) if name in LONG else gates


def wrong(name: str, clicks: int, run: int, seed: int) -> Wrong:
    """A run of a scenario on splits with about so many clicks; the arguments decide the result."""
    return SCENARIOS[name](clicks, np.random.default_rng([seed, clicks, list(SCENARIOS).index(name), run]))


def rate(found: Sequence[Wrong]) -> Rate:
    """The shares of wrong decisions in some runs."""
    before, after = np.mean(found, axis=0)
    return Rate(float(before), float(after))


def _first(scores: Callable[[Split, np.random.Generator], F64], *, good: bool) -> Scenario:
    def run(clicks: int, rng: np.random.Generator) -> Wrong:
        split = draw(clicks, rng)
        found = evaluation(split, scores(split, rng))
        return passed_formerly(found) is not good, passes(found) is not good

    return run


def _later(loss: float, *, good: bool) -> Scenario:
    def run(clicks: int, rng: np.random.Generator) -> Wrong:
        split = draw(clicks, rng)
        served = split.scores(0.0, rng)
        found = evaluation(split, split.scores(loss, rng), (served, measured(split, served)))
        return passed_formerly(found) is not good, passes(found) is not good

    return run


def _noise_tries(clicks: int, rng: np.random.Generator) -> Wrong:
    split = draw(clicks, rng)
    return _any_passes([evaluation(split, noise(split, rng)) for _ in range(STEPS)])


def _tries(clicks: int, rng: np.random.Generator) -> Wrong:
    split = draw(clicks, rng)
    scores = split.scores(0.0, rng)
    served = scores, measured(split, scores)
    return _any_passes([evaluation(split, split.scores(_LIMIT, rng), served) for _ in range(STEPS)])


def _any_passes(found: Collection[Evaluation]) -> Wrong:
    after = any(passes(one, tries) for tries, one in enumerate(found, 1))
    return any(passed_formerly(one) for one in found), after


def _losses(clicks: int, rng: np.random.Generator) -> Wrong:
    """Each candidate is worse than the version that its gate serves, and meets a new split."""
    before = after = best = 0.0
    for _ in range(STEPS):
        split = draw(clicks, rng)
        by_loss = {loss: split.scores(loss, rng) for loss in {before, after, best}}
        served = {loss: (scores, measured(split, scores)) for loss, scores in by_loss.items()}
        lost = before + _LIMIT / 2
        if passed_formerly(evaluation(split, split.scores(lost, rng), served[before])):
            before = lost
        lost = after + _LIMIT / 2
        former = None if best == after else served[best][1]
        found = evaluation(split, split.scores(lost, rng), served[after], former)
        if passes(found):
            best = lost if is_better(found, corrected_confidence(LIMITS.confidence, 1)) else best
            after = lost
    return before >= 2 * _LIMIT, after >= 2 * _LIMIT


SCENARIOS: Mapping[str, Scenario] = {
    "noise": _first(noise, good=False),
    "noise_tries": _noise_tries,
    "worse": _later(_LIMIT, good=False),
    "much_worse": _later(2 * _LIMIT, good=False),
    "tries": _tries,
    "losses": _losses,
    "good_first": _first(lambda split, rng: split.scores(0.0, rng), good=True),
    "equal": _later(0.0, good=True),
    "better": _later(-_LIMIT / 2, good=True),
}
LONG = frozenset({"noise_tries", "tries", "losses"})
TITLES: Mapping[str, str] = {
    "noise": "noise passes as the first version",
    "noise_tries": f"one of {STEPS} noise models passes as the first version, on one split",
    "worse": f"a model worse by the limit of {_LIMIT:g} AUC passes",
    "much_worse": "a model worse by twice the limit passes",
    "tries": f"one of {STEPS} models worse by the limit passes, on one split",
    "losses": f"{STEPS} models, each worse than the served one by half the limit, lose twice the limit or more",
    "good_first": "a good model is rejected as the first version",
    "equal": "a model equal to the served one is rejected",
    "better": "a model better by half the limit is rejected",
}
