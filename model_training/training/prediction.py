"""Click probabilities from a model in memory."""

import numpy as np
import tensorflow as tf

from model_training.early_stopping.validation import Predict
from model_training.models.model import Model
from model_training.parts.inputs import flat_inputs
from model_training.training.step import row_signature
from streamer.features import FeatureSpec, Layout
from streamer.types import F32, I32


def predict(model: Model, spec: FeatureSpec, ids: I32, floats: F32, *, batch_size: int = 4096) -> F32:
    """Click probabilities of n flat rows, float32 [n], not corrected for negative sampling."""
    return predictor(model, spec, batch_size=batch_size)(ids, floats)


def predictor(model: Model, spec: FeatureSpec, *, batch_size: int = 4096) -> Predict:
    """A function like `predict`, for repeated calls; it sees later changes of the model."""
    layout = Layout(spec)

    @tf.function(autograph=False, input_signature=row_signature(layout))  # type: ignore[untyped-decorator]
    def ctr(ids: tf.Tensor, floats: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(model.logits(flat_inputs(layout, ids, floats)))

    return in_batches(lambda ids, floats: ctr(ids, floats).numpy(), batch_size)


def in_batches(score: Predict, batch_size: int = 4096) -> Predict:
    """Splits the rows of each call into batches of at most `batch_size` for `score`."""

    def scores(ids: I32, floats: F32) -> F32:
        starts = range(0, len(ids), batch_size)
        parts = [score(ids[at : at + batch_size], floats[at : at + batch_size]) for at in starts]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)

    return scores
