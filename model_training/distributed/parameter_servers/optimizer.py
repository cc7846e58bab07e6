"""FTRL and AdaGrad as one optimizer of TensorFlow's graph API, with the updates of a single process.

A step that gathers the gradients of n processes is to be the step that one would make of their n batches together:
means for dense layers, sums over all examples for rows of tables.
"""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from model_training.training.optimizers import Rule, sum_by_row

Gradient = tuple[tf.Tensor | tf.IndexedSlices, tf.Variable]


class CompositeOptimizer(tf.compat.v1.train.Optimizer):  # type: ignore[misc]  # TensorFlow has no types
    """Applies to each variable the rule that is its own.

    It is told the mean over all contributions of a dense variable's gradients, and the rows of all of a table's.

    Args:
        rules: by variable's name.
        padded: names of the variables whose row 0 is padding and stays as it is.
        batch_size: examples of which each contribution is the mean.
        contributions: how many there are: 1, or a float32 scalar.
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

    # What follows overrides hooks of the base class, under the names that it gives them.

    def _create_slots(self, var_list: Sequence[tf.Variable]) -> None:
        for variable in var_list:
            rule = self._rules[variable.op.name]
            for slot in rule.slots:
                first = tf.fill(variable.shape, rule.initial(slot))
                self._get_or_make_slot(variable, first, slot, slot)

    def _resource_apply_dense(self, grad: tf.Tensor, var: tf.Variable) -> tf.Operation:
        rule = self._rules[var.op.name]
        return rule.dense(var, self._slots_of(var, rule), grad, self._batch_size * self._contributions)

    def _resource_apply_sparse_duplicate_indices(
        self, grad: tf.Tensor, var: tf.Variable, indices: tf.Tensor
    ) -> tf.Operation:
        rule = self._rules[var.op.name]
        rows, sums = sum_by_row(tf.IndexedSlices(grad, indices), padded=var.op.name in self._padded)
        # Each contribution is that of its own mean, so their sum counts every example once.
        return rule.rows(var, self._slots_of(var, rule), rows, sums, self._batch_size)

    def _slots_of(self, variable: tf.Variable, rule: Rule) -> list[tf.Variable]:
        return [self.get_slot(variable, slot) for slot in rule.slots]
