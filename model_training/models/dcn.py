"""Deep & Cross, version 1: cross layers beside a network, over the same inputs.

    p = σ(u · x_L + v · h + b)          x_L from the cross layers, h from the dense layers

The two output numbers are added here, which equals the paper's concatenation multiplied by [u v]. The model reads only
the spec's deep features.
Wang, Fu, Fu, Wang: Deep & Cross Network for Ad Click Predictions (2017).
"""

from collections.abc import Sequence

import tensorflow as tf

from model_training.columns import input_columns
from model_training.layers.cross_v1 import bias_products, cross_v1
from model_training.parts.deep import DeepPart
from model_training.parts.embedding import EmbeddingPart
from model_training.parts.inputs import ModelInputs
from model_training.parts.variables import VariableFactory, create_variable, he_normal, zeros
from streamer.features import Layout


class DeepCross(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """The model's variables and its logits."""

    def __init__(
        self,
        layout: Layout,
        hidden_units: Sequence[int],
        *,
        cross_layers: int = 3,
        embedding_stddev: float = 0.05,
        seed: int = 1,
        create: VariableFactory = create_variable,
    ) -> None:
        super().__init__(name="dcn")
        self.embedding = EmbeddingPart(layout, input_columns(layout), stddev=embedding_stddev, seed=seed, create=create)
        self.deep = DeepPart(self.embedding.widths, hidden_units, seed=seed, create=create)
        request, candidate = self.embedding.widths
        columns, width = cross_layers + 1, request + candidate
        self.request_kernel = create("cross/request_kernel", [request, columns], he_normal(seed, 1001, width))
        self.candidate_kernel = create("cross/candidate_kernel", [candidate, columns], he_normal(seed, 1002, width))
        self.request_biases = create("cross/request_biases", [cross_layers, request], zeros)
        self.candidate_biases = create("cross/candidate_biases", [cross_layers, candidate], zeros)
        self.bias = create("bias", [], zeros)

    @property
    def wide_variables(self) -> list[tf.Variable]:
        """Empty: this model has no linear part."""
        return []

    @property
    def tables(self) -> list[tf.Variable]:
        """Tables: read by gathers, with a padding row, and updated sparsely."""
        return self.embedding.tables

    def logits(self, inputs: ModelInputs) -> tf.Tensor:
        """Log odds of a click, float32 [n]. All products with x_0 are computed once per request."""
        request, candidate = self.embedding.request(inputs).joined(), self.embedding.candidate(inputs).joined()
        deep = self.deep.logit(inputs.to_candidates(self.deep.share(request)), candidate)
        share = inputs.to_candidates(tf.matmul(request, self.request_kernel))
        constants = bias_products(self.request_kernel, self.request_biases)
        constants += bias_products(self.candidate_kernel, self.candidate_biases)
        crossed = cross_v1(share + tf.matmul(candidate, self.candidate_kernel), constants)
        return crossed + deep + self.bias
