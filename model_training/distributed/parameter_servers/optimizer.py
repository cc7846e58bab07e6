"""FTRL and AdaGrad as one optimizer of TensorFlow's graph API.

Its updates are the same as in a single process. A step with the gradients of n processes equals the step of one process
on their n batches together: dense layers get means, rows of tables get sums over all examples.
"""

from collections.abc import Mapping, Sequence

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
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        *,
        padded: Sequence[str],
        batch_size: int,
        contributions: float | tf.Tensor = 1.0,
    ) -> None:
        super().__init__(use_locking=False, name="composite")
        self._rules, self._padded = rules, frozenset(padded)
        self._batch_size, self._contributions = float(batch_size), contributions

    # The following methods override hooks of the base class, which gives these names.

    def _create_slots(self, var_list: Sequence[tf.Variable]) -> None:
        for variable in var_list:
            rule = self._rules[variable.op.name]
            for slot in rule.slots:
                first = rule.initial(slot, variable.initial_value)
                self._get_or_make_slot(variable, first, slot, slot)

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
