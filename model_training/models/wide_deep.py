"""Wide & Deep: a linear model over crosses beside a network over embeddings.

    p = σ(wide(ids, floats) + deep(embeddings, floats) + b)

Cheng et al.: Wide & Deep Learning for Recommender Systems (2016).
"""

from collections.abc import Sequence
from itertools import pairwise

import tensorflow as tf

from model_training.columns import candidate_end, request_end
from model_training.errors import ConfigError
from model_training.layers.dense_stack import dense_stack
from model_training.layers.fused_embedding import FieldPlan, fused_embedding
from model_training.layers.linear import linear_floats, linear_ids
from model_training.layers.select import select
from model_training.layers.split_dense import request_share, split_dense
from model_training.models.inputs import ModelInputs
from model_training.variables import VariableFactory, create_variable, he_normal, padded_normal, zeros
from streamer.features import Layout


class WideDeep(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """The model's variables and its logits.

    Invariant: row 0 of `embedding_table` and of `wide_weights` is zero at first; trainers keep it so.
    """

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
        self._request, self._candidate = request_end(layout), candidate_end(layout)
        if self._request.is_empty or self._candidate.is_empty:
            raise ConfigError(f"spec {layout.spec.name!r}: needs features of user or context, and of candidates")
        self._plans = [FieldPlan.of(end.embedded) for end in (self._request, self._candidate)]
        self._dim = dim = layout.spec.embedding_dim
        inputs = [end.deep_width(dim) for end in (self._request, self._candidate)]
        first, last = hidden_units[0], hidden_units[-1]

        self.wide_weights = create("wide/weights", [layout.table_rows], zeros)
        self.wide_request_floats = create("wide/request_floats", [len(self._request.wide_floats)], zeros)
        self.wide_candidate_floats = create("wide/candidate_floats", [len(self._candidate.wide_floats)], zeros)
        self.embedding_table = create(
            "deep/embedding_table", [layout.embedded_rows, dim], padded_normal(embedding_stddev, seed, 0)
        )
        self.request_kernel = create("deep/request_kernel", [inputs[0], first], he_normal(seed, 1, sum(inputs)))
        self.candidate_kernel = create("deep/candidate_kernel", [inputs[1], first], he_normal(seed, 2, sum(inputs)))
        self.first_bias = create("deep/first_bias", [first], zeros)
        self.kernels = [
            create(f"deep/kernel_{i}", shape, he_normal(seed, 2 + i))
            for i, shape in enumerate(pairwise(hidden_units), 1)
        ]
        self.biases = [create(f"deep/bias_{i}", [units], zeros) for i, units in enumerate(hidden_units[1:], 1)]
        self.output_kernel = create("deep/output_kernel", [last, 1], he_normal(seed, 3 + len(hidden_units)))
        self.bias = create("bias", [], zeros)

    @property
    def wide_variables(self) -> list[tf.Variable]:
        """Those that FTRL trains."""
        return [self.wide_weights, self.wide_request_floats, self.wide_candidate_floats]

    @property
    def tables(self) -> list[tf.Variable]:
        """Those that are read by gathers, have a row of padding, and get sparse updates."""
        return [self.wide_weights, self.embedding_table]

    def logits(self, inputs: ModelInputs) -> tf.Tensor:
        """Log odds of a click, float32 [n]. What only depends on the request is worked out once a request."""
        return self._wide(inputs) + self._deep(inputs) + self.bias

    def _wide(self, inputs: ModelInputs) -> tf.Tensor:
        request = linear_ids(self.wide_weights, inputs.request_ids, self._request.wide_ids)
        candidate = linear_ids(self.wide_weights, inputs.candidate_ids, self._candidate.wide_ids)
        if self._request.wide_floats:
            request += linear_floats(self.wide_request_floats, inputs.request_floats, self._request.wide_floats)
        if self._candidate.wide_floats:
            candidate += linear_floats(self.wide_candidate_floats, inputs.candidate_floats, self._candidate.wide_floats)
        return inputs.to_candidates(request) + candidate

    def _deep(self, inputs: ModelInputs) -> tf.Tensor:
        request = self._dense_inputs(inputs.request_ids, inputs.request_floats, 0)
        candidate = self._dense_inputs(inputs.candidate_ids, inputs.candidate_floats, 1)
        share = inputs.to_candidates(request_share(request, self.request_kernel, self.first_bias))
        hidden = split_dense(share, candidate, self.candidate_kernel)
        return tf.squeeze(tf.matmul(dense_stack(hidden, self.kernels, self.biases), self.output_kernel), axis=1)

    def _dense_inputs(self, ids: tf.Tensor, floats: tf.Tensor, end: int) -> tf.Tensor:
        embedded = fused_embedding(self.embedding_table, ids, self._plans[end], self._dim)
        columns = (self._request, self._candidate)[end].deep_floats
        return tf.concat([embedded, select(floats, columns)], axis=1) if columns else embedded
