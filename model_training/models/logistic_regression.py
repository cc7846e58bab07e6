"""Logistic regression: what the linear part is worth alone, over single features.

    p = σ(Σ_j w[i_j] + Σ_k u_k x_k + b)

It reads all of the spec's features, wide or deep, but no crosses. McMahan et al.: Ad Click Prediction: a View from the
Trenches (2013), which trains it by FTRL, as is done here.
"""

import tensorflow as tf

from model_training.columns import both_ends
from model_training.parts.inputs import ModelInputs
from model_training.parts.linear import LinearPart
from model_training.parts.variables import VariableFactory, create_variable, zeros
from streamer.features import Cross, Layout


class LogisticRegression(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """The model's variables and its logits. There is nothing random: all weights are zero at first."""

    def __init__(self, layout: Layout, *, create: VariableFactory = create_variable) -> None:
        super().__init__(name="logistic_regression")
        request, candidate = both_ends(layout)
        # Rows of crosses behind the last single feature would never be read.
        ends = [c.offset + c.rows for ids in layout.ids.values() for c in ids if not isinstance(c.feature, Cross)]
        self.wide = LinearPart(max(ends, default=1), request.single, candidate.single, create=create)
        self.bias = create("bias", [], zeros)

    @property
    def wide_variables(self) -> list[tf.Variable]:
        """All: FTRL trains them."""
        return [*self.wide.trained, self.bias]

    @property
    def tables(self) -> list[tf.Variable]:
        """Those that are read by gathers, have a row of padding, and get sparse updates."""
        return [self.wide.weights]

    def logits(self, inputs: ModelInputs) -> tf.Tensor:
        """Log odds of a click, float32 [n]. What only depends on the request is worked out once a request."""
        return self.wide.logit(inputs) + self.bias
