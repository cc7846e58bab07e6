"""Deep & Cross, version 2: cross layers with matrices, before or beside a network.

    p = σ(v · h(x_L) + b)               stacked: the dense layers h read the output of the cross layers
    p = σ(u · x_L + v · h(x_0) + b)     parallel

The model reads only the spec's deep features. In parallel the dense layers' share of a request is computed once per
request. Stacked, only the first cross layer's share is, because the inputs of the dense layers differ by candidate.
Wang et al.: DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to Rank Systems (2021).
"""

from collections.abc import Sequence

import tensorflow as tf

from model_training.columns import input_columns
from model_training.layers.cross_v2 import cross_v2, project
from model_training.parts.deep import DeepPart
from model_training.parts.embedding import EmbeddingPart
from model_training.parts.inputs import ModelInputs
from model_training.parts.variables import VariableFactory, create_variable, he_normal, zeros
from streamer.features import Layout


class DeepCrossV2(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """The model's variables and its logits; `rank` is None for matrices of full rank."""

    def __init__(
        self,
        layout: Layout,
        hidden_units: Sequence[int],
        *,
        cross_layers: int = 2,
        rank: int | None = None,
        parallel: bool = False,
        embedding_stddev: float = 0.05,
        seed: int = 1,
        create: VariableFactory = create_variable,
    ) -> None:
        super().__init__(name="dcn_v2")
        self.embedding = EmbeddingPart(layout, input_columns(layout), stddev=embedding_stddev, seed=seed, create=create)
        self.deep = DeepPart(self.embedding.widths, hidden_units, seed=seed, create=create)
        request, candidate = self.embedding.widths
        width = request + candidate
        inner = rank or width
        self.request_kernel = create("cross/request_kernel", [request, inner], he_normal(seed, 1001, width))
        self.candidate_kernel = create("cross/candidate_kernel", [candidate, inner], he_normal(seed, 1002, width))
        self.kernels = [
            create(f"cross/kernel_{i}", [width, inner], he_normal(seed, 1002 + i)) for i in range(1, cross_layers)
        ]
        self.up_kernels = [
            create(f"cross/up_kernel_{i}", [inner, width], he_normal(seed, 2001 + i))
            for i in range(cross_layers if rank else 0)
        ]
        self.biases = [create(f"cross/bias_{i}", [width], zeros) for i in range(cross_layers)]
        self.output_kernel = create("cross/output_kernel", [width, 1], he_normal(seed, 3001)) if parallel else None
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
        """Log odds of a click, float32 [n]. The request's share is computed once per request."""
        request, candidate = self.embedding.request(inputs).joined(), self.embedding.candidate(inputs).joined()
        crossed = self._crossed(inputs, request, candidate)
        if self.output_kernel is None:
            of_request, of_candidate = tf.split(crossed, self.embedding.widths, axis=1)
            return self.deep.logit(self.deep.share(of_request), of_candidate) + self.bias
        deep = self.deep.logit(inputs.to_candidates(self.deep.share(request)), candidate)
        return tf.squeeze(tf.matmul(crossed, self.output_kernel), axis=1) + deep + self.bias

    def _crossed(self, inputs: ModelInputs, request: tf.Tensor, candidate: tf.Tensor) -> tf.Tensor:
        share = inputs.to_candidates(tf.matmul(request, self.request_kernel))
        head = share + tf.matmul(candidate, self.candidate_kernel)
        first = tf.concat([inputs.to_candidates(request), candidate], axis=1)
        crossed = cross_v2(first, first, project(head, self.up_kernels[:1]), self.biases[0])
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases[1:], strict=True), 1):
            crossed = cross_v2(first, crossed, project(crossed, [kernel, *self.up_kernels[i : i + 1]]), bias)
        return crossed
