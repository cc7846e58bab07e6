"""FTRL, AdaGrad and Adam as one optimizer; tables get sparse updates.

A table's gradients are summed per row of the batch, and no other row is updated: a dense update of a fused table would
take longer than the rest of the step. FTRL and the rows of tables get sums over the batch, as in online learning: one
summed gradient per step. Dense layers get means.

FTRL and AdaGrad divide a gradient by the root of the squares so far. The square of a sum is on average the sum of the
examples' squares where the examples' gradients differ by chance only, as they do near the optimum: there the rate does
not depend on the batch size. Where all gradients of a batch agree, the square is larger, and a weight moves by at most
its learning rate per step, and 2 · rate · √steps in a run. So the bias of the logit must not begin far away
(`models.build`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from model_training.config.training import DeepConfig, FtrlConfig
from model_training.models.model import Model
from model_training.parts.variables import shards_of
from model_training.training.adam import Adam
from model_training.training.schedule import START, Clock


def sum_by_row(gradient: tf.IndexedSlices, *, padded: bool = True) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums a sparse gradient per row: row numbers [u], each once, and sums [u, …].

    With `padded`, row 0 is padding and its sum is 0. Of a table in shards only the first shard has padding.
    """
    rows, positions = tf.unique(tf.reshape(gradient.indices, [-1]))
    sums = tf.math.unsorted_segment_sum(gradient.values, positions, tf.size(rows))
    if not padded:
        return rows, sums
    # Not `!=`: in graph mode it would compare Python objects.
    is_row = tf.reshape(tf.not_equal(rows, 0), [-1, *[1] * (len(gradient.values.shape) - 1)])
    return rows, tf.where(is_row, sums, 0.0)


@dataclass(frozen=True, slots=True)
class Ftrl:
    """FTRL-Proximal; the learning rate is proportional to 1 / √`accumulator`.

    The accumulator is the sum of squared gradients; a gradient is the sum over the examples of a step.
    """

    settings: FtrlConfig
    slots: ClassVar[tuple[str, ...]] = ("accumulator", "linear")

    def initial(self, slot: str, first: tf.Tensor) -> tf.Tensor:
        """The initial `slot` of a variable that begins at `first`.

        An update computes a weight from its slots alone: w = (l1 sign(z) - z) / (√n / rate + 2 l2). So `linear` begins
        at the z of `first`. L2 then draws a weight to `first`, and not to zero; L1 still draws it to zero.
        """
        s = self.settings
        if slot == "accumulator":
            return tf.fill(first.shape, s.initial_accumulator)
        return -first * (s.initial_accumulator**0.5 / s.learning_rate + 2 * s.l2) - s.l1 * tf.sign(first)

    def dense(
        self, variable: tf.Variable, slots: Sequence[tf.Variable], gradient: tf.Tensor, examples: tf.Tensor | float
    ) -> tf.Operation:
        """One update by the gradient of the mean loss over `examples` examples."""
        return tf.raw_ops.ResourceApplyFtrl(**self._arguments(variable, slots), grad=gradient * examples)

    def rows(
        self,
        variable: tf.Variable,
        slots: Sequence[tf.Variable],
        rows: tf.Tensor,
        sums: tf.Tensor,
        examples: tf.Tensor | float,
    ) -> tf.Operation:
        """One update of some `rows` [u] of a table, each once, by their gradients [u, …]."""
        return tf.raw_ops.ResourceSparseApplyFtrl(
            **self._arguments(variable, slots), grad=sums * examples, indices=rows
        )

    def _arguments(self, variable: tf.Variable, slots: Sequence[tf.Variable]) -> dict[str, object]:
        handles = {"var": variable.handle, "accum": slots[0].handle, "linear": slots[1].handle}
        rates = {"lr": self.settings.learning_rate, "l1": self.settings.l1, "l2": self.settings.l2, "lr_power": -0.5}
        return {**handles, **rates}


@dataclass(frozen=True, slots=True)
class AdaGrad:
    """AdaGrad; gradients are divided by √`accumulator`.

    The accumulator is the sum of squared gradients.
    """

    settings: DeepConfig
    clock: Clock = START
    slots: ClassVar[tuple[str, ...]] = ("accumulator",)

    def initial(self, slot: str, first: tf.Tensor) -> tf.Tensor:
        """The initial `slot` of a variable that begins at `first`."""
        return tf.fill(first.shape, self.settings.initial_accumulator)

    def dense(
        self,
        variable: tf.Variable,
        slots: Sequence[tf.Variable],
        gradient: tf.Tensor,
        examples: tf.Tensor | float,
    ) -> tf.Operation:
        """One update by the gradient of the mean loss."""
        rate = self.settings.learning_rate * self.clock.factor(self.settings.schedule)
        return tf.raw_ops.ResourceApplyAdagrad(var=variable.handle, accum=slots[0].handle, lr=rate, grad=gradient)

    def rows(
        self,
        variable: tf.Variable,
        slots: Sequence[tf.Variable],
        rows: tf.Tensor,
        sums: tf.Tensor,
        examples: tf.Tensor | float,
    ) -> tf.Operation:
        """One update of some `rows` [u] of a table, each once.

        `sums` [u, …] are their gradients of the mean over `examples`.
        """
        rate = self.settings.embedding_learning_rate * self.clock.factor(self.settings.schedule)
        return tf.raw_ops.ResourceSparseApplyAdagrad(
            var=variable.handle, accum=slots[0].handle, lr=rate, grad=sums * examples, indices=rows
        )


Rule = Ftrl | AdaGrad | Adam
"""The update rule of one variable."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The update rule of each trained variable of a model."""

    wide: Ftrl
    tables: AdaGrad
    dense: AdaGrad | Adam
    _of_wide: frozenset[int]
    _of_tables: frozenset[int]

    @classmethod
    def of(cls, model: Model, wide: FtrlConfig, deep: DeepConfig, clock: Clock) -> "Rules":
        """The rules of a model's variables; only a schedule and Adam read the `clock`."""
        sparse = AdaGrad(deep, clock)
        of_tables = frozenset(id(shard) for table in model.tables for shard in shards_of(table))
        of_wide = frozenset(id(variable) for variable in model.wide_variables)
        return cls(Ftrl(wide), sparse, Adam(deep, clock) if deep.optimizer == "adam" else sparse, of_wide, of_tables)

    def __getitem__(self, variable: tf.Variable) -> Rule:
        if id(variable) in self._of_wide:
            return self.wide
        return self.tables if id(variable) in self._of_tables else self.dense


class WideDeepOptimizer(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Updates a model's variables in place; owns their slots.

    Args:
        clip_norm: the largest norm of all gradients of a step together; None for no limit.
        clock: the position in the run; only a schedule and Adam read it.
    """

    def __init__(
        self,
        model: Model,
        wide: FtrlConfig,
        deep: DeepConfig,
        *,
        clip_norm: float | None = None,
        clock: Clock = START,
    ) -> None:
        super().__init__(name="optimizer")
        self._clip_norm = clip_norm
        self._rules = Rules.of(model, wide, deep, clock)
        own = {id(v) for v in model.wide_variables}
        self.wide_variables: Sequence[tf.Variable] = model.wide_variables
        self.deep_variables: Sequence[tf.Variable] = [v for v in model.trainable_variables if id(v) not in own]
        self.slots = [_slots(v, self._rules[v]) for v in self.trained]

    @property
    def trained(self) -> list[tf.Variable]:
        """The trained variables, in the order in which `apply` takes their gradients."""
        return [*self.wide_variables, *self.deep_variables]

    def apply(self, gradients: Sequence[tf.Tensor | tf.IndexedSlices], examples: tf.Tensor) -> None:
        """One step by the gradients of the mean loss over `examples` (float32 scalar) examples."""
        summed = [_summed(gradient) for gradient in gradients]
        if self._clip_norm is not None:
            summed, _ = tf.clip_by_global_norm(summed, self._clip_norm)
        for variable, slots, gradient in zip(self.trained, self.slots, summed, strict=True):
            rule = self._rules[variable]
            if isinstance(gradient, tf.IndexedSlices):
                rule.rows(variable, slots, gradient.indices, gradient.values, examples)
            else:
                rule.dense(variable, slots, gradient, examples)


def _summed(gradient: tf.Tensor | tf.IndexedSlices) -> tf.Tensor | tf.IndexedSlices:
    """A gradient in which each row of a table occurs once."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, sums = sum_by_row(gradient)
    return tf.IndexedSlices(sums, rows, gradient.dense_shape)


def _slots(variable: tf.Variable, rule: Rule) -> list[tf.Variable]:
    name, first = variable.name.split(":")[0], tf.convert_to_tensor(variable)
    return [tf.Variable(rule.initial(slot, first), name=f"{name}/{slot}", trainable=False) for slot in rule.slots]
