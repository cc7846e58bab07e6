"""FTRL and AdaGrad as one optimizer of TensorFlow's graph API, which is what `SyncReplicasOptimizer` wraps.

A step that gathers the gradients of n workers is to be the step that one process would make of their n batches
together: means for dense layers, sums over all examples for rows of tables. TensorFlow's accumulators average
everything, and a row by the number of workers whose batch named it, which is no sum of anything. So a worker sends
row i as i · 2³¹ + r, with a number r that it draws anew each time: no two gradients then have a row in common to be
averaged, and the server, which knows i again, adds them up.
"""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from model_training.optimizers import Rule, sum_by_row

_DRAWN_BITS = 31


class CompositeOptimizer(tf.compat.v1.train.Optimizer):  # type: ignore[misc]  # TensorFlow has no types
    """Applies to each variable the rule that is its own.

    Args:
        rules: by variable's name.
        padded: names of the variables whose row 0 is padding and stays as it is.
        batch_size: examples of which one worker's gradient is the mean.
        aggregated: how many workers' gradients are applied at once.
        replaced: names of the variables that learn nothing and become what is sent as their gradient.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        *,
        padded: Sequence[str],
        batch_size: int,
        aggregated: int = 1,
        replaced: Sequence[str] = (),
    ) -> None:
        super().__init__(use_locking=False, name="composite")
        self._rules, self._padded, self._replaced = rules, frozenset(padded), frozenset(replaced)
        self._batch_size, self._aggregated = batch_size, aggregated

    def compute_gradients(self, *args: object, **kwargs: object) -> list[tuple[tf.Tensor, tf.Variable]]:
        """As the base class; a table's rows stand once each, under numbers of their own."""
        pairs = super().compute_gradients(*args, **kwargs)
        return [(_numbered(g) if isinstance(g, tf.IndexedSlices) else g, v) for g, v in pairs]

    # What follows overrides hooks of the base class, under the names that it gives them.

    def _create_slots(self, var_list: Sequence[tf.Variable]) -> None:
        for variable in var_list:
            if variable.op.name in self._replaced:
                continue
            rule = self._rules[variable.op.name]
            for slot in rule.slots:
                first = tf.fill(variable.shape, rule.initial(slot))
                self._get_or_make_slot(variable, first, slot, slot)

    def _resource_apply_dense(self, grad: tf.Tensor, var: tf.Variable) -> tf.Operation:
        if var.op.name in self._replaced:
            return var.assign(grad).op
        rule = self._rules[var.op.name]
        return rule.dense(var, self._slots_of(var, rule), grad, float(self._batch_size * self._aggregated))

    def _resource_apply_sparse_duplicate_indices(
        self, grad: tf.Tensor, var: tf.Variable, indices: tf.Tensor
    ) -> tf.Operation:
        rule = self._rules[var.op.name]
        # An accumulator does not tell the shape of what was put into it.
        values = tf.ensure_shape(grad, [None, *var.shape[1:]])
        numbered = tf.IndexedSlices(values, tf.bitwise.right_shift(indices, tf.constant(_DRAWN_BITS, tf.int64)))
        rows, sums = sum_by_row(numbered, padded=var.op.name in self._padded)
        # Each worker's gradient is that of its own mean, so their sum counts every example once.
        return rule.rows(var, self._slots_of(var, rule), rows, sums, float(self._batch_size))

    def _slots_of(self, variable: tf.Variable, rule: Rule) -> list[tf.Variable]:
        return [self.get_slot(variable, slot) for slot in rule.slots]


def _numbered(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    rows, sums = sum_by_row(gradient, padded=False)
    drawn = tf.random.uniform([], maxval=2**_DRAWN_BITS, dtype=tf.int64)
    shifted = tf.bitwise.left_shift(tf.cast(rows, tf.int64), tf.constant(_DRAWN_BITS, tf.int64))
    return tf.IndexedSlices(sums, shifted + drawn)
