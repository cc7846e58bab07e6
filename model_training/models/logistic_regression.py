"""Logistic regression: the linear part alone, over single features.

    p = σ(Σ_j w[i_j] + Σ_k u_k x_k + b)

The model reads all of the spec's features, wide or deep, except crosses. FTRL trains it, as in McMahan et al.: Ad Click
Prediction: a View from the Trenches (2013).
"""

import tensorflow as tf

from model_training.columns import input_columns
from model_training.parts.inputs import ModelInputs
from model_training.parts.linear import LinearPart
from model_training.parts.variables import VariableFactory, create_variable, zeros
from streamer.features import Cross, Layout


class LogisticRegression(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """The model's variables and its logits. All weights start at zero, so nothing is random."""

    def __init__(self, layout: Layout, *, create: VariableFactory = create_variable) -> None:
        super().__init__(name="logistic_regression")
        request, candidate = input_columns(layout)
        # Without the rows of crosses after the last single feature: the model would never read them.
        ends = [c.offset + c.rows for ids in layout.ids.values() for c in ids if not isinstance(c.feature, Cross)]
        self.wide = LinearPart(max(ends, default=1), request.single, candidate.single, create=create)
        self.bias = create("bias", [], zeros)

    @property
    def wide_variables(self) -> list[tf.Variable]:
        """All variables: FTRL trains them."""
        return [*self.wide.trained, self.bias]

    @property
    def tables(self) -> list[tf.Variable]:
        """Tables: read by gathers, with a padding row, and updated sparsely."""
        return [self.wide.weights]

    def logits(self, inputs: ModelInputs) -> tf.Tensor:
        """Log odds of a click, float32 [n]. The request's share is computed once per request."""
        return self.wide.logit(inputs) + self.bias
