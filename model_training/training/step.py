"""Loss and gradients of one batch."""

from collections.abc import Sequence

import tensorflow as tf

from model_training.config.training import DeepConfig
from model_training.data.input_pipeline import Batch
from model_training.models.model import Model
from model_training.parts.deep import deep_parts, dropping
from model_training.parts.inputs import flat_inputs
from streamer.features import Layout


def losses(
    model: Model, layout: Layout, batch: Batch, *, deep: DeepConfig, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The mean log loss of a batch, and the loss with the penalty of `deep`, which is minimised.

    With weights w the mean is Σ w_i l_i / n, so an example of weight 2 has the gradient of two equal ones.

    Args:
        seed: int32 [2], of this step's dropout.
    """
    ids, floats, labels, *weights = batch
    with dropping(model, deep.dropout, seed):
        logits = model.logits(flat_inputs(layout, ids, floats))
    of_examples = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    loss = tf.reduce_mean(of_examples * weights[0] if weights else of_examples)
    if not deep.l2:
        return loss, loss
    squares = [tf.reduce_sum(tf.square(kernel)) for part in deep_parts(model) for kernel in part.weights]
    return loss, loss + deep.l2 * tf.add_n(squares)


def loss_and_gradients(
    model: Model,
    layout: Layout,
    trained: Sequence[tf.Variable],
    batch: Batch,
    *,
    deep: DeepConfig,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, list[tf.Tensor | tf.IndexedSlices]]:
    """The mean log loss of a batch, and the gradients of the minimised value.

    The gradients are with respect to `trained`; those of tables are sparse. `losses` has the other arguments.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(trained)
        loss, minimised = losses(model, layout, batch, deep=deep, seed=seed)
    return loss, tape.gradient(minimised, trained, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def dropout_seed(seed: int, made: tf.Tensor, share: tuple[int, int] = (0, 1)) -> tf.Tensor:
    """The seed of a step's dropout, int32 [2]: it differs by step and by process.

    Args:
        seed: that of the run.
        made: number of steps before this one, a scalar.
        share: this process's number, and the number of processes.
    """
    process, processes = share
    return tf.stack([tf.constant(seed, tf.int32), tf.cast(made, tf.int32) * processes + process])


def batch_signature(layout: Layout, *, weights: bool = False) -> list[tf.TensorSpec]:
    """Tensor specs of a batch: ids, floats, labels, and `weights` if the records have them."""
    return [*row_signature(layout), *[tf.TensorSpec([None], tf.float32)] * (1 + weights)]


def row_signature(layout: Layout) -> list[tf.TensorSpec]:
    """Tensor specs of flat rows: ids and floats."""
    return [tf.TensorSpec([None, layout.row_ids], tf.int32), tf.TensorSpec([None, layout.row_floats], tf.float32)]
