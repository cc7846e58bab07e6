"""When training no longer pays: the best evaluation so far, and how many came after it; pure."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from model_training.click_log import Examples
from model_training.config import EarlyStoppingConfig
from model_training.metrics import evaluate, recalibrated
from streamer.types import F32, I32

Predict = Callable[[I32, F32], F32]
"""Click probabilities, float32 [n], of flat rows."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What evaluations have shown so far.

    Attributes:
        value: the best value of the metric, and `examples` what had been learnt from by then.
        waited: evaluations since then.
        evaluated: examples that had been learnt from at the last evaluation.
    """

    value: float
    examples: int
    evaluated: int
    waited: int = 0

    def ends(self, settings: EarlyStoppingConfig) -> bool:
        """Whether training is to end."""
        return self.waited >= settings.patience


def judged(before: Standing | None, value: float, examples: int, settings: EarlyStoppingConfig) -> Standing:
    """The standing after an evaluation that gave `value` when `examples` had been learnt from.

    One that was counted already, as after a restart from an older checkpoint, changes nothing.
    """
    if before is None:
        return Standing(value, examples, examples)
    if examples <= before.evaluated:
        return before
    gain = value - before.value if settings.metric == "auc" else before.value - value
    if gain > settings.min_improvement:
        return Standing(value, examples, examples)
    return replace(before, evaluated=examples, waited=before.waited + 1)


def is_due(before: int, after: int, every: int) -> bool:
    """Whether a step from `before` to `after` examples reaches or passes a multiple of `every`."""
    return after // every > before // every


@dataclass(frozen=True, slots=True)
class Validation:
    """Examples that a run judges itself by and does not learn from.

    Attributes:
        sampling_rate: share of the non-clicks that the records kept of what `examples` have.
        every: examples to learn from between two judgements.
    """

    examples: Examples
    sampling_rate: float
    every: int

    def value(self, predict: Predict, metric: Literal["auc", "log_loss"]) -> float:
        """The metric of a model's scores, as the exported model would give them.

        Raises:
            DataError: a score is not in [0, 1].
        """
        ctr = predict(self.examples.ids, self.examples.floats)
        quality = evaluate(self.examples.labels, recalibrated(ctr, self.sampling_rate))
        return quality.auc if metric == "auc" else quality.log_loss
