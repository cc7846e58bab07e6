"""Loss and gradients of one batch."""

from collections.abc import Sequence

import tensorflow as tf

from model_training.data.input_pipeline import Batch
from model_training.models.model import Model
from model_training.parts.inputs import flat_inputs
from streamer.features import Layout


def loss_and_gradients(
    model: Model,
    layout: Layout,
    trained: Sequence[tf.Variable],
    batch: Batch,
) -> tuple[tf.Tensor, list[tf.Tensor | tf.IndexedSlices]]:
    """The mean log loss of a batch and its gradients with respect to `trained`.

    Tables get sparse gradients.
    """
    ids, floats, labels = batch
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(trained)
        logits = model.logits(flat_inputs(layout, ids, floats))
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))
    return loss, tape.gradient(loss, trained, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def batch_signature(layout: Layout) -> list[tf.TensorSpec]:
    """Tensor specs of a batch: ids, floats and labels."""
    return [*row_signature(layout), tf.TensorSpec([None], tf.float32)]


def row_signature(layout: Layout) -> list[tf.TensorSpec]:
    """Tensor specs of flat rows: ids and floats."""
    return [tf.TensorSpec([None, layout.row_ids], tf.int32), tf.TensorSpec([None, layout.row_floats], tf.float32)]
