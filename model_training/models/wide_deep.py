"""Wide & Deep: a linear model over crosses beside a network over embeddings.

    p = σ(wide(ids, floats) + deep(embeddings, floats) + b)

Cheng et al.: Wide & Deep Learning for Recommender Systems (2016).
"""

from collections.abc import Sequence

import tensorflow as tf

from model_training.columns import input_columns
from model_training.parts.deep import DeepPart
from model_training.parts.embedding import EmbeddingPart
from model_training.parts.inputs import ModelInputs
from model_training.parts.linear import LinearPart
from model_training.parts.variables import VariableFactory, create_variable, zeros
from streamer.features import Layout


class WideDeep(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """The model's variables and its logits."""

    def __init__(
        self,
        layout: Layout,
        hidden_units: Sequence[int],
        *,
        embedding_stddev: float = 0.05,
        seed: int = 1,
        create: VariableFactory = create_variable,
    ) -> None:
        super().__init__(name="wide_deep")
        columns = input_columns(layout)
        self.wide = LinearPart(layout.table_rows, columns[0].wide, columns[1].wide, create=create)
        self.embedding = EmbeddingPart(layout, columns, stddev=embedding_stddev, seed=seed, create=create)
        self.deep = DeepPart(self.embedding.widths, hidden_units, seed=seed, create=create)
        self.bias = create("bias", [], zeros)

    @property
    def wide_variables(self) -> list[tf.Variable]:
        """Variables that FTRL trains."""
        return self.wide.trained

    @property
    def tables(self) -> list[tf.Variable]:
        """Tables: read by gathers, with a padding row, and updated sparsely."""
        return [self.wide.weights, *self.embedding.tables]

    def logits(self, inputs: ModelInputs) -> tf.Tensor:
        """Log odds of a click, float32 [n]. The request's share is computed once per request."""
        share = inputs.to_candidates(self.deep.share(self.embedding.request(inputs).joined()))
        deep = self.deep.logit(share, self.embedding.candidate(inputs).joined())
        return self.wide.logit(inputs) + deep + self.bias
