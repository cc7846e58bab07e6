"""Training in a single process."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from model_training.config import TrainingConfig
from model_training.errors import DataError
from model_training.models.inputs import flat_inputs
from model_training.models.model import Model
from model_training.optimizers import WideDeepOptimizer
from streamer.features import FeatureSpec, Layout
from streamer.types import F32, I32

_REPORT_EVERY = 20


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands: `examples` done, and the mean loss of the last few steps."""

    steps: int
    examples: int
    loss: float


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A finished run. `loss` is the mean log loss of its second half, each step's before its own update."""

    steps: int
    examples: int
    seconds: float
    examples_per_second: float
    loss: float


def train(
    model: Model,
    spec: FeatureSpec,
    data: tf.data.Dataset,
    config: TrainingConfig,
    report: Callable[[Progress], None] | None = None,
) -> TrainResult:
    """Trains `model` in place on one pass over `data`, batches as `input_pipeline.batches` makes them.

    Raises:
        DataError: there are no batches, or the loss is no longer finite.
    """
    layout = Layout(spec)
    optimizer = WideDeepOptimizer(model, config.wide, config.deep)
    total_loss = tf.Variable(0.0, trainable=False)

    @tf.function(  # type: ignore[untyped-decorator]
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, layout.row_ids], tf.int32),
            tf.TensorSpec([None, layout.row_floats], tf.float32),
            tf.TensorSpec([None], tf.float32),
        ],
    )
    def step(ids: tf.Tensor, floats: tf.Tensor, labels: tf.Tensor) -> None:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(optimizer.trained)
            logits = model.logits(flat_inputs(layout, ids, floats))
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))
        gradients = tape.gradient(loss, optimizer.trained, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        optimizer.apply(gradients, tf.cast(tf.size(labels), tf.float32))
        total_loss.assign_add(loss)

    started = time.monotonic()
    steps = examples = 0
    losses: list[float] = []
    for ids, floats, labels in data:
        step(ids, floats, labels)
        steps += 1
        examples += labels.shape[0]
        if steps % _REPORT_EVERY == 0:
            losses.append(_take_loss(total_loss, _REPORT_EVERY))
            if report is not None:
                report(Progress(steps, examples, losses[-1]))
    if not steps:
        raise DataError("there are no examples to train on")
    if steps % _REPORT_EVERY:
        losses.append(_take_loss(total_loss, steps % _REPORT_EVERY))
    if report is not None:
        report(Progress(steps, examples, losses[-1]))
    seconds = time.monotonic() - started
    return TrainResult(steps, examples, seconds, examples / seconds, float(np.mean(losses[len(losses) // 2 :])))


def _take_loss(total: tf.Variable, steps: int) -> float:
    mean = float(total.numpy()) / steps
    total.assign(0.0)
    if not np.isfinite(mean):
        raise DataError("the loss is no longer finite: lower the learning rates, or look for huge numbers in the data")
    return mean


def predict(model: Model, spec: FeatureSpec, ids: I32, floats: F32, *, batch_size: int = 4096) -> F32:
    """Click probabilities, before any correction for sampling, of n flat rows: float32 [n]."""
    layout = Layout(spec)

    @tf.function(  # type: ignore[untyped-decorator]
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, layout.row_ids], tf.int32),
            tf.TensorSpec([None, layout.row_floats], tf.float32),
        ],
    )
    def ctr(ids: tf.Tensor, floats: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(model.logits(flat_inputs(layout, ids, floats)))

    parts = [
        ctr(ids[at : at + batch_size], floats[at : at + batch_size]).numpy() for at in range(0, len(ids), batch_size)
    ]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)
