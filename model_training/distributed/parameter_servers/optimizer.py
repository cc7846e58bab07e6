"""The optimizers of a model's variables as one optimizer of TensorFlow's graph API.

Its updates are the same as in a single process. A step with the gradients of n processes equals the step of one process
on their n batches together: dense layers get means, rows of tables get sums over all examples.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import tensorflow as tf

from model_training.training.optimizers import Rule, sum_by_row

Gradient = tuple[tf.Tensor | tf.IndexedSlices, tf.Variable]


class CompositeOptimizer(tf.compat.v1.train.Optimizer):  # type: ignore[misc]  # TensorFlow has no types
    """Applies to each variable its own update rule.

    The gradient of a dense variable is the mean over all contributions; that of a table has the rows of all.

    Args:
        rules: update rules by variable name.
        padded: names of the variables whose row 0 is padding and does not change.
        batch_size: number of examples per contribution, which is their mean.
        contributions: number of contributions: 1, or a float32 scalar.
        clip_norm: the largest norm of all gradients of a step together; None for no limit.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        *,
        padded: Sequence[str],
        batch_size: int,
        contributions: float | tf.Tensor = 1.0,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(use_locking=False, name="composite")
        self._rules, self._padded = rules, frozenset(padded)
        self._batch_size, self._contributions, self._clip_norm = float(batch_size), contributions, clip_norm

    def apply_gradients(
        self, grads_and_vars: Sequence[Gradient], global_step: tf.Variable | None = None, name: str | None = None
    ) -> tf.Operation:
        """One step by these gradients, which are scaled down if their norm is above the limit."""
        pairs = grads_and_vars if self._clip_norm is None else self._clipped(grads_and_vars, self._clip_norm)
        return super().apply_gradients(pairs, global_step, name)

    def _clipped(self, pairs: Sequence[Gradient], clip_norm: float) -> list[Gradient]:
        """The gradients, scaled on their servers; between the servers only numbers are sent."""
        summed, means = [], []
        for gradient, variable in pairs:
            mean = gradient
            if isinstance(gradient, tf.IndexedSlices):
                with tf.compat.v1.device(variable.device):
                    rows, sums = sum_by_row(gradient, padded=variable.op.name in self._padded)
                    gradient = tf.IndexedSlices(sums, rows)  # noqa: PLW2901
                    mean = sums / self._contributions
            summed.append(gradient)
            means.append(mean)
        scaled, _ = tf.clip_by_global_norm(summed, clip_norm, use_norm=tf.linalg.global_norm(means))
        return [(gradient, variable) for gradient, (_, variable) in zip(scaled, pairs, strict=True)]

    # The following methods override hooks of the base class, which gives these names.

    def _create_slots(self, var_list: Sequence[tf.Variable]) -> None:
        for variable in var_list:
            rule = self._rules[variable.op.name]
            for slot in rule.slots:
                # A function, which TensorFlow places beside the variable: its server computes the slot.
                first = partial(_initial, rule, slot, variable)
                self._get_or_make_slot_with_initializer(variable, first, variable.shape, tf.float32, slot, slot)

    def _resource_apply_dense(self, grad: tf.Tensor, var: tf.Variable) -> tf.Operation:
        rule = self._rules[var.op.name]
        return rule.dense(var, self._slots_of(var, rule), grad, self._batch_size * self._contributions)

    def _resource_apply_sparse_duplicate_indices(
        self, grad: tf.Tensor, var: tf.Variable, indices: tf.Tensor
    ) -> tf.Operation:
        rule = self._rules[var.op.name]
        rows, sums = sum_by_row(tf.IndexedSlices(grad, indices), padded=var.op.name in self._padded)
        # Each contribution is a mean over its own batch, so their sum times the batch size counts each example once.
        return rule.rows(var, self._slots_of(var, rule), rows, sums, self._batch_size)

    def _slots_of(self, variable: tf.Variable, rule: Rule) -> list[tf.Variable]:
        return [self.get_slot(variable, slot) for slot in rule.slots]


def _initial(rule: Rule, slot: str, variable: tf.Variable, shape: Sequence[int], dtype: tf.DType) -> tf.Tensor:
    return rule.initial(slot, variable.initial_value)
