"""Who computes which batch: each process takes the next one of all, and keeps one whose gradients came too late.

All processes see the same batches in the same order. A counter on a parameter server says how many have been taken, so
that a slow process takes few of them, and whoever goes on from a checkpoint goes on where the others were.
"""

import sys

import tensorflow as tf

from model_training.data.input_pipeline import Batch, training_batches
from model_training.distributed.parameter_servers.variables import passing_variable
from model_training.distributed.run import Run


class Assignment:
    """The batches of one process, in the graph under construction.

    Invariants: (1) a batch is taken by one process; only what was under way when that one died, or when all went back
    to a checkpoint, may be missed or taken again. (2) A process that is `keeping` what was not learnt takes no other
    batch before its own has been.

    Attributes:
        batch: of this step: ids, floats, labels. Its evaluation takes it.
    """

    def __init__(self, run: Run) -> None:
        # An index is to name the same batch in all processes.
        config = run.config.model_copy(update={"deterministic": True})
        data = training_batches(run.records, run.manifest, config, epochs=None).enumerate()
        iterator = tf.compat.v1.data.make_initializable_iterator(data)
        tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
        taken = tf.compat.v1.Variable(tf.zeros([], tf.int64), name="batches_taken", trainable=False, use_resource=True)
        specs = tf.nest.flatten(data.element_spec)
        with tf.device(run.task.device):
            held = [passing_variable(_nothing(spec), shape=spec.shape) for spec in specs]
            self._is_kept = passing_variable(tf.constant(False))

        def take() -> tf.Tensor:
            with tf.compat.v1.colocate_with(taken.handle):
                return tf.raw_ops.ResourceCountUpTo(resource=taken.handle, limit=sys.maxsize, T=tf.int64)

        index = tf.cond(self._is_kept.read_value(), held[0].read_value, take)
        # The batches before it are others'.
        found = tf.while_loop(
            lambda at, *_: at < index,
            lambda *_: tf.nest.flatten(iterator.get_next()),
            [part.read_value() for part in held],
            shape_invariants=[spec.shape for spec in specs],
        )
        with tf.control_dependencies([part.assign(value) for part, value in zip(held, found, strict=True)]):
            self.batch: Batch = tuple(tf.identity(value) for value in found[1:])

    def keeping(self, was_missed: tf.Tensor) -> tf.Operation:
        """Has the batch of this step stay for the next one if it `was_missed` (bool scalar)."""
        return self._is_kept.assign(was_missed).op


def _nothing(spec: tf.TensorSpec) -> tf.Tensor:
    """No rows; for the index, the one before the first."""
    return tf.fill([size or 0 for size in spec.shape], tf.constant(-1, spec.dtype))
