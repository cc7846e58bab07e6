"""When training no longer pays: the best evaluation so far, and how many came after it; pure."""

from dataclasses import dataclass, replace

from model_training.config.training import EarlyStoppingConfig


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
