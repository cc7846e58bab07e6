"""What training, export and serving need of a model, whichever it is."""

from collections.abc import Sequence
from typing import Protocol

import tensorflow as tf

from model_training.parts.inputs import ModelInputs


class Model(Protocol):
    """A model's variables and its logits.

    Invariant: row 0 of each table, which is padding, is zero at first; trainers keep it so.
    """

    @property
    def trainable_variables(self) -> Sequence[tf.Variable]:
        """All that training changes."""

    @property
    def wide_variables(self) -> Sequence[tf.Variable]:
        """Those that FTRL trains; AdaGrad trains the others."""

    @property
    def tables(self) -> Sequence[tf.Variable]:
        """Those that are read by gathers, have a row of padding, and get sparse updates; whole or as shards."""

    def logits(self, inputs: ModelInputs) -> tf.Tensor:
        """Log odds of a click, float32 [n]. What only depends on the request is worked out once a request."""
