"""Adam, for dense variables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from model_training.config.training import DeepConfig
from model_training.training.schedule import START, Clock

_MEAN, _SQUARE, _EPSILON = 0.9, 0.999, 1e-7
"""Keras's defaults: decay of the two moments, and the number that is added to the divisor."""


@dataclass(frozen=True, slots=True)
class Adam:
    """Adam: the recent gradients' mean is divided by the root of their mean square.

    It has no form for rows of a table: its moments decay in each step, for all rows.
    Kingma and Ba: Adam: A Method for Stochastic Optimization (2015), algorithm 1 in the order of section 2.
    """

    settings: DeepConfig
    clock: Clock = START
    slots: ClassVar[tuple[str, ...]] = ("mean", "square")

    def initial(self, slot: str, first: tf.Tensor) -> tf.Tensor:
        """The initial `slot` of a variable that begins at `first`."""
        return tf.zeros_like(first)

    def dense(
        self, variable: tf.Variable, slots: Sequence[tf.Variable], gradient: tf.Tensor, examples: tf.Tensor | float
    ) -> tf.Operation:
        """One update by the gradient of the mean loss."""
        step = self.clock.made() + 1.0
        return tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=slots[0].handle,
            v=slots[1].handle,
            beta1_power=_MEAN**step,
            beta2_power=_SQUARE**step,
            lr=self.settings.learning_rate * self.clock.factor(self.settings.schedule),
            beta1=_MEAN,
            beta2=_SQUARE,
            epsilon=_EPSILON,
            grad=gradient,
        )

    def rows(
        self,
        variable: tf.Variable,
        slots: Sequence[tf.Variable],
        rows: tf.Tensor,
        sums: tf.Tensor,
        examples: tf.Tensor | float,
    ) -> tf.Operation:
        """Not possible: tables have another rule."""
        raise AssertionError(f"{variable.name}: a table has another rule than Adam")
