"""The protocol by which training, export and serving use every model."""

from collections.abc import Sequence
from typing import Protocol

import tensorflow as tf

from model_training.parts.inputs import ModelInputs


class Model(Protocol):
    """A model's variables and its logits.

    Invariants:
    (1) Row 0 of each table is padding; it starts at zero, and optimizers keep it at zero.
    (2) The bias of the logit is a scalar that is created as `bias`; `build_model` lets it begin at the log odds.
    """

    @property
    def trainable_variables(self) -> Sequence[tf.Variable]:
        """Variables that training changes."""

    @property
    def wide_variables(self) -> Sequence[tf.Variable]:
        """Variables that FTRL trains; AdaGrad or Adam trains the others."""

    @property
    def tables(self) -> Sequence[tf.Variable]:
        """Tables, whole or in shards: read by gathers, with a padding row, and updated sparsely."""

    def logits(self, inputs: ModelInputs) -> tf.Tensor:
        """Log odds of a click, float32 [n]. The request's share is computed once per request."""
