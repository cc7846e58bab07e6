"""Assigns batches to processes by a shared counter.

Each process takes the next batch. It keeps a batch whose gradients came too late. All processes see the same batches in
the same order. A counter on a parameter server is the number of batches taken, so a slow process takes few batches, and
a run continues from a checkpoint where it was.
"""

import sys

import tensorflow as tf

from model_training.data.input_pipeline import Batch, training_batches
from model_training.distributed.parameter_servers.variables import scratch_variable
from model_training.distributed.run import Run


class Assignment:
    """The batches of one process, in the graph under construction.

    Invariants:
    (1) One process takes each batch. A batch may be missed or taken twice only if its process died, or if the run went
        back to a checkpoint.
    (2) A process that is `keeping` a batch takes no other batch before the kept one has been learnt.

    Attributes:
        batch: ids, floats and labels of this step. Evaluating them takes the batch.
    """

    def __init__(self, run: Run) -> None:
        # An index must name the same batch in all processes.
        config = run.config.model_copy(update={"deterministic": True})
        data = training_batches(run.records, run.manifest, config, epochs=None).enumerate()
        iterator = tf.compat.v1.data.make_initializable_iterator(data)
        tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
        taken = tf.compat.v1.Variable(tf.zeros([], tf.int64), name="batches_taken", trainable=False, use_resource=True)
        specs = tf.nest.flatten(data.element_spec)
        with tf.device(run.task.device):
            held = [scratch_variable(_nothing(spec), shape=spec.shape) for spec in specs]
            self._is_kept = scratch_variable(tf.constant(False))

        def take() -> tf.Tensor:
            with tf.compat.v1.colocate_with(taken.handle):
                return tf.raw_ops.ResourceCountUpTo(resource=taken.handle, limit=sys.maxsize, T=tf.int64)

        index = tf.cond(self._is_kept.read_value(), held[0].read_value, take)
        # Skips the batches that other processes have taken.
        found = tf.while_loop(
            lambda at, *_: at < index,
            lambda *_: tf.nest.flatten(iterator.get_next()),
            [part.read_value() for part in held],
            shape_invariants=[spec.shape for spec in specs],
        )
        with tf.control_dependencies([part.assign(value) for part, value in zip(held, found, strict=True)]):
            self.batch: Batch = tuple(tf.identity(value) for value in found[1:])

    def keeping(self, was_missed: tf.Tensor) -> tf.Operation:
        """Keeps the batch of this step for the next step if it `was_missed` (bool scalar)."""
        return self._is_kept.assign(was_missed).op


def _nothing(spec: tf.TensorSpec) -> tf.Tensor:
    """An empty tensor; for the index, the index before the first batch."""
    return tf.fill([size or 0 for size in spec.shape], tf.constant(-1, spec.dtype))
