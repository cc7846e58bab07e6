"""xDeepFM: a compressed interaction network beside a linear model and a network.

    p = σ(wide(ids, floats) + u · [p_1 … p_K] + deep(embeddings, floats) + b),      p_kh = Σ_d X^k_hd

X^k are the feature maps of layer k of the CIN. Its fields are the spec's deep features; the linear part reads the wide
features.
Lian et al.: xDeepFM: Combining Explicit and Implicit Feature Interactions for Recommender Systems (2018).
"""

from collections.abc import Sequence

import tensorflow as tf

from model_training.columns import input_columns
from model_training.layers.cin import compress, interaction_matrices
from model_training.parts.deep import DeepPart
from model_training.parts.embedding import EmbeddingPart
from model_training.parts.fields import FieldPart
from model_training.parts.inputs import ModelInputs
from model_training.parts.linear import LinearPart
from model_training.parts.variables import VariableFactory, create_variable, he_normal, zeros
from streamer.features import Layout


class XDeepFm(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """The model's variables and logits; `feature_maps` has H_k per CIN layer, in order."""

    def __init__(
        self,
        layout: Layout,
        hidden_units: Sequence[int],
        *,
        feature_maps: Sequence[int] = (32, 32),
        embedding_stddev: float = 0.05,
        seed: int = 1,
        create: VariableFactory = create_variable,
    ) -> None:
        super().__init__(name="xdeepfm")
        columns = input_columns(layout)
        self.wide = LinearPart(layout.table_rows, columns[0].wide, columns[1].wide, create=create)
        self.embedding = EmbeddingPart(layout, columns, stddev=embedding_stddev, seed=seed, create=create)
        self.fields = FieldPart(columns, self.embedding.dim, stddev=embedding_stddev, seed=seed, create=create)
        self.deep = DeepPart(self.embedding.widths, hidden_units, seed=seed, create=create)
        request, candidate = self.fields.counts
        self._maps = tuple(feature_maps)
        # Blocks of the first layer: request with request; then, as in the other layers, request and candidate with the
        # maps before, which are the candidate's fields here.
        before = (candidate, *self._maps[:-1])
        fan_in = [count * (request + candidate) for count in (request + candidate, *self._maps[:-1])]
        self.request_pairs = create(
            "cin/request_pairs", [request, request * self._maps[0]], he_normal(seed, 1100, fan_in[0])
        )
        self.request_kernels = [
            create(f"cin/request_kernel_{k}", [request, count * maps], he_normal(seed, 1200 + k, fan))
            for k, (count, maps, fan) in enumerate(zip(before, self._maps, fan_in, strict=True))
        ]
        self.candidate_kernels = [
            create(f"cin/candidate_kernel_{k}", [candidate, count * maps], he_normal(seed, 1300 + k, fan))
            for k, (count, maps, fan) in enumerate(zip(before, self._maps, fan_in, strict=True))
        ]
        self.output_kernel = create("cin/output_kernel", [sum(self._maps), 1], he_normal(seed, 1400))
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

        The request's matrices of each CIN layer are computed once per request.
        """
        request, candidate = self.embedding.request(inputs), self.embedding.candidate(inputs)
        share = inputs.to_candidates(self.deep.share(request.joined()))
        deep = self.deep.logit(share, candidate.joined())
        interactions = self._interactions(inputs, self.fields.request(request), self.fields.candidate(candidate))
        return self.wide.logit(inputs) + interactions + deep + self.bias

    def _interactions(self, inputs: ModelInputs, request: tf.Tensor, candidate: tf.Tensor) -> tf.Tensor:
        request, candidate = (tf.transpose(fields, [0, 2, 1]) for fields in (request, candidate))
        own = compress(request, interaction_matrices(request, self.request_pairs), self._maps[0])
        current, pooled = candidate, []
        for k, maps in enumerate(self._maps):
            matrices = inputs.to_candidates(interaction_matrices(request, self.request_kernels[k]))
            matrices += interaction_matrices(candidate, self.candidate_kernels[k])
            current = compress(current, matrices, maps)
            if k == 0:
                current += inputs.to_candidates(own)
            pooled.append(tf.reduce_sum(current, axis=1))
        return tf.squeeze(tf.matmul(tf.concat(pooled, axis=1), self.output_kernel), axis=1)
