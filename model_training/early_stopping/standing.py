"""Early stopping's rule: the best evaluation, and the number of later ones; pure."""

from dataclasses import dataclass, replace

from model_training.config.training import EarlyStoppingConfig


@dataclass(frozen=True, slots=True)
class Standing:
    """The result of all evaluations so far.

    Attributes:
        value: the best value of the metric.
        examples: number of training examples before the best evaluation.
        evaluated: number of training examples before the last evaluation.
        waited: number of evaluations after the best one.
    """

    value: float
    examples: int
    evaluated: int
    waited: int = 0

    def ends(self, settings: EarlyStoppingConfig) -> bool:
        """Whether training must end."""
        return self.waited >= settings.patience


def updated_standing(before: Standing | None, value: float, examples: int, settings: EarlyStoppingConfig) -> Standing:
    """The standing after an evaluation with result `value` at `examples` training examples.

    An evaluation that was counted before changes nothing: it repeats after a restart from an older checkpoint.
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
