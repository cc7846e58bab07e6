"""DeepFM: a factorization machine beside a network, over the same embeddings.

    p = σ(wide(ids, floats) + Σ_(i<j) ⟨v_i, v_j⟩ + deep(embeddings, floats) + b)

The first-order part reads the spec's wide features; the pairs and the network read its deep features.
Guo, Tang, Ye, Li, He: DeepFM: A Factorization-Machine based Neural Network for CTR Prediction (2017).
"""

from collections.abc import Sequence

import tensorflow as tf

from model_training.columns import input_columns
from model_training.layers.factorization_machine import factorization_machine, field_sum, pair_sum
from model_training.parts.deep import DeepPart
from model_training.parts.embedding import EmbeddingPart
from model_training.parts.fields import FieldPart
from model_training.parts.inputs import ModelInputs
from model_training.parts.linear import LinearPart
from model_training.parts.variables import VariableFactory, create_variable, zeros
from streamer.features import Layout


class DeepFm(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
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
        super().__init__(name="deepfm")
        columns = input_columns(layout)
        self.wide = LinearPart(layout.table_rows, columns[0].wide, columns[1].wide, create=create)
        self.embedding = EmbeddingPart(layout, columns, stddev=embedding_stddev, seed=seed, create=create)
        self.fields = FieldPart(columns, self.embedding.dim, stddev=embedding_stddev, seed=seed, create=create)
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
        """Log odds of a click, float32 [n].

        Sum and pairs of the request's fields are computed once per request.
        """
        request, candidate = self.embedding.request(inputs), self.embedding.candidate(inputs)
        share = inputs.to_candidates(self.deep.share(request.joined()))
        deep = self.deep.logit(share, candidate.joined())
        shared = self.fields.request(request)
        pairs = factorization_machine(
            inputs.to_candidates(field_sum(shared)),
            inputs.to_candidates(pair_sum(shared)),
            self.fields.candidate(candidate),
        )
        return self.wide.logit(inputs) + pairs + deep + self.bias
