"""Training in a single process, and scoring by a model in memory."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from model_training.checkpoints import Checkpoints
from model_training.config import TrainingConfig
from model_training.early_stopping import Predict, Validation
from model_training.input_pipeline import Batch
from model_training.loop import Report, TrainResult, run_steps
from model_training.models.inputs import flat_inputs
from model_training.models.model import Model
from model_training.optimizers import WideDeepOptimizer
from model_training.stopping import EarlyStopping
from streamer.features import FeatureSpec, Layout
from streamer.types import F32, I32


def train(
    model: Model,
    spec: FeatureSpec,
    data: tf.data.Dataset,
    config: TrainingConfig,
    report: Report | None = None,
    *,
    checkpoints: Checkpoints | None = None,
    validation: Validation | None = None,
) -> TrainResult:
    """Trains `model` in place on one pass over `data`, batches as `input_pipeline.batches` makes them.

    Args:
        checkpoints: what the run goes on from, and where it is kept; `data` begins at its position.
        validation: with `checkpoints` and a section `early_stopping`, what ends training and chooses the model.

    Raises:
        DataError: there are no batches, they cannot be read, or the loss is no longer finite.
        ExportError: a checkpoint cannot be written.
    """
    layout = Layout(spec)
    optimizer = WideDeepOptimizer(model, config.wide, config.deep)
    stopping = None
    if checkpoints is not None:
        checkpoints.attach(model, optimizer)
        if config.early_stopping is not None and validation is not None:
            stopping = EarlyStopping(
                config.early_stopping,
                validation.every,
                model=model,
                predict=predictor(model, spec),
                checkpoints=checkpoints,
                validation=validation,
            )

    @tf.function(autograph=False, input_signature=batch_signature(layout))  # type: ignore[untyped-decorator]
    def step(ids: tf.Tensor, floats: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        loss, gradients = loss_and_gradients(model, layout, optimizer.trained, (ids, floats, labels))
        optimizer.apply(gradients, tf.cast(tf.size(labels), tf.float32))
        return loss

    return run_steps(step, data, report, checkpoints=checkpoints, stopping=stopping)


def loss_and_gradients(
    model: Model,
    layout: Layout,
    trained: Sequence[tf.Variable],
    batch: Batch,
) -> tuple[tf.Tensor, list[tf.Tensor | tf.IndexedSlices]]:
    """The mean log loss of a batch, and its gradients with respect to `trained`; those of tables are sparse."""
    ids, floats, labels = batch
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(trained)
        logits = model.logits(flat_inputs(layout, ids, floats))
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))
    return loss, tape.gradient(loss, trained, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def batch_signature(layout: Layout) -> list[tf.TensorSpec]:
    """Of ids, floats and labels."""
    return [*_row_signature(layout), tf.TensorSpec([None], tf.float32)]


def _row_signature(layout: Layout) -> list[tf.TensorSpec]:
    return [tf.TensorSpec([None, layout.row_ids], tf.int32), tf.TensorSpec([None, layout.row_floats], tf.float32)]


def predict(model: Model, spec: FeatureSpec, ids: I32, floats: F32, *, batch_size: int = 4096) -> F32:
    """Click probabilities, before any correction for sampling, of n flat rows: float32 [n]."""
    return predictor(model, spec, batch_size=batch_size)(ids, floats)


def predictor(model: Model, spec: FeatureSpec, *, batch_size: int = 4096) -> Predict:
    """`predict` for a model that is asked more than once; it follows the model's changes."""
    layout = Layout(spec)

    @tf.function(autograph=False, input_signature=_row_signature(layout))  # type: ignore[untyped-decorator]
    def ctr(ids: tf.Tensor, floats: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(model.logits(flat_inputs(layout, ids, floats)))

    return in_batches(lambda ids, floats: ctr(ids, floats).numpy(), batch_size)


def in_batches(score: Predict, batch_size: int = 4096) -> Predict:
    """Scores of many rows by a function that is given no more than `batch_size` at once."""

    def scores(ids: I32, floats: F32) -> F32:
        starts = range(0, len(ids), batch_size)
        parts = [score(ids[at : at + batch_size], floats[at : at + batch_size]) for at in starts]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)

    return scores
