"""What networks read of both ends: embeddings from one table, then numbers."""

from dataclasses import dataclass

import tensorflow as tf

from model_training.columns import Ends
from model_training.errors import ConfigError
from model_training.layers.fused_embedding import FieldPlan, fused_embedding
from model_training.layers.select import select
from model_training.parts.inputs import ModelInputs
from model_training.parts.variables import VariableFactory, padded_normal
from streamer.features import Layout


@dataclass(frozen=True, slots=True)
class Embedded:
    """The deep columns of one end, n rows of it.

    Attributes:
        vectors: float32 [n, fields × dim], one field after the other.
        numbers: float32 [n, k].
    """

    vectors: tf.Tensor
    numbers: tf.Tensor

    def joined(self) -> tf.Tensor:
        """Side by side, as a dense layer reads them: float32 [n, fields × dim + k]."""
        return tf.concat([self.vectors, self.numbers], axis=1) if self.numbers.shape[1] else self.vectors


class EmbeddingPart(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """The fused table, and how each end is read from it.

    Invariant: row 0 of `table`, which is padding, is zero at first; trainers keep it so.

    Attributes:
        widths: of `Embedded.joined`, the request's and the candidate's.
    """

    def __init__(self, layout: Layout, ends: Ends, *, stddev: float, seed: int, create: VariableFactory) -> None:
        super().__init__(name="embedding")
        self.dim = layout.spec.embedding_dim
        self.widths = (ends[0].deep_width(self.dim), ends[1].deep_width(self.dim))
        if not sum(self.widths):
            raise ConfigError(f"spec {layout.spec.name!r}: needs deep features for this model")
        self._ends = ends
        self._plans = [FieldPlan.of(end.embedded) for end in ends]
        shape = [layout.embedded_rows, self.dim]
        self.table = create("deep/embedding_table", shape, padded_normal(stddev, seed, 0), table=True)

    def request(self, inputs: ModelInputs) -> Embedded:
        """Rows of user and context, r of them."""
        return self._embedded(0, inputs.request_ids, inputs.request_floats)

    def candidate(self, inputs: ModelInputs) -> Embedded:
        """Rows of candidates, n of them."""
        return self._embedded(1, inputs.candidate_ids, inputs.candidate_floats)

    def _embedded(self, end: int, ids: tf.Tensor, floats: tf.Tensor) -> Embedded:
        vectors = fused_embedding(self.table, ids, self._plans[end], self.dim)
        return Embedded(vectors, select(floats, self._ends[end].deep_floats))
