"""FTRL for the wide part and AdaGrad for the deep part, as one optimizer, with sparse updates of the tables.

Gradients of a table are summed for each of its rows that the batch names, each row once, and no other row is touched:
a dense update of a fused table would cost more than the rest of the step. They are sums over the batch, as in online
learning, so that learning rates and penalties of the tables do not depend on the batch size; dense layers get means.
"""

from collections.abc import Sequence

import tensorflow as tf

from model_training.config import AdaGradConfig, FtrlConfig
from model_training.models.model import Model


def sum_by_row(gradient: tf.IndexedSlices) -> tuple[tf.Tensor, tf.Tensor]:
    """Each row of a sparse gradient once: row numbers [u] and the sums of their gradients [u, …], 0 for padding."""
    rows, positions = tf.unique(tf.reshape(gradient.indices, [-1]))
    sums = tf.math.unsorted_segment_sum(gradient.values, positions, tf.size(rows))
    is_row = tf.reshape(rows != 0, [-1, *[1] * (len(gradient.values.shape) - 1)])
    return rows, tf.where(is_row, sums, 0.0)


class WideDeepOptimizer(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Updates a model's variables in place; owns their accumulators."""

    def __init__(self, model: Model, wide: FtrlConfig, deep: AdaGradConfig) -> None:
        super().__init__(name="optimizer")
        self._wide, self._deep = wide, deep
        own = {id(v) for v in model.wide_variables}
        self.wide_variables: Sequence[tf.Variable] = model.wide_variables
        self.deep_variables: Sequence[tf.Variable] = [v for v in model.trainable_variables if id(v) not in own]
        self.wide_accumulators = [_slot(v, wide.initial_accumulator) for v in self.wide_variables]
        self.wide_linears = [_slot(v, 0.0) for v in self.wide_variables]
        self.deep_accumulators = [_slot(v, deep.initial_accumulator) for v in self.deep_variables]

    @property
    def trained(self) -> list[tf.Variable]:
        """The variables whose gradients `apply` takes, in its order."""
        return [*self.wide_variables, *self.deep_variables]

    def apply(self, gradients: Sequence[tf.Tensor | tf.IndexedSlices], examples: tf.Tensor) -> None:
        """One step by the gradients of the mean loss over `examples` (float32 scalar) examples."""
        split = len(self.wide_variables)
        for variable, n, z, gradient in zip(
            self.wide_variables, self.wide_accumulators, self.wide_linears, gradients[:split], strict=True
        ):
            self._ftrl(variable, n, z, gradient, examples)
        for variable, n, gradient in zip(self.deep_variables, self.deep_accumulators, gradients[split:], strict=True):
            self._adagrad(variable, n, gradient, examples)

    def _ftrl(
        self, variable: tf.Variable, n: tf.Variable, z: tf.Variable, gradient: tf.Tensor, examples: tf.Tensor
    ) -> None:
        settings = {"lr": self._wide.learning_rate, "l1": self._wide.l1, "l2": self._wide.l2, "lr_power": -0.5}
        handles = {"var": variable.handle, "accum": n.handle, "linear": z.handle}
        if isinstance(gradient, tf.IndexedSlices):
            rows, sums = sum_by_row(gradient)
            tf.raw_ops.ResourceSparseApplyFtrl(**handles, grad=sums * examples, indices=rows, **settings)
        else:
            tf.raw_ops.ResourceApplyFtrl(**handles, grad=gradient * examples, **settings)

    def _adagrad(self, variable: tf.Variable, n: tf.Variable, gradient: tf.Tensor, examples: tf.Tensor) -> None:
        handles = {"var": variable.handle, "accum": n.handle}
        if isinstance(gradient, tf.IndexedSlices):
            rows, sums = sum_by_row(gradient)
            rate = self._deep.embedding_learning_rate
            tf.raw_ops.ResourceSparseApplyAdagrad(**handles, lr=rate, grad=sums * examples, indices=rows)
        else:
            tf.raw_ops.ResourceApplyAdagrad(**handles, lr=self._deep.learning_rate, grad=gradient)


def _slot(variable: tf.Variable, value: float) -> tf.Variable:
    return tf.Variable(tf.fill(variable.shape, value), name=f"{variable.name.split(':')[0]}/slot", trainable=False)
