"""Inputs of networks, for request and candidate: embeddings of one table, then numbers."""

from dataclasses import dataclass

import tensorflow as tf

from model_training.columns import ColumnPair
from model_training.errors import ConfigError
from model_training.layers.fused_embedding import FieldPlan, fused_embedding
from model_training.layers.select import select
from model_training.parts.inputs import ModelInputs
from model_training.parts.variables import VariableFactory, padded_normal
from streamer.features import Layout


@dataclass(frozen=True, slots=True)
class Embedded:
    """The deep columns of one input, n rows.

    Attributes:
        vectors: float32 [n, fields × dim], one field after another.
        numbers: float32 [n, k].
    """

    vectors: tf.Tensor
    numbers: tf.Tensor

    def joined(self) -> tf.Tensor:
        """Concatenates vectors and numbers for a dense layer: float32 [n, fields × dim + k]."""
        return tf.concat([self.vectors, self.numbers], axis=1) if self.numbers.shape[1] else self.vectors


class EmbeddingPart(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """The fused table, and the lookups of request and candidate.

    Invariant: row 0 of `table` is padding; it starts at zero, and optimizers keep it at zero.

    Attributes:
        widths: widths of `Embedded.joined` for the request and the candidate.
    """

    def __init__(
        self, layout: Layout, columns: ColumnPair, *, stddev: float, seed: int, create: VariableFactory
    ) -> None:
        super().__init__(name="embedding")
        self.dim = layout.spec.embedding_dim
        self.widths = (columns[0].deep_width(self.dim), columns[1].deep_width(self.dim))
        if not sum(self.widths):
            raise ConfigError(f"spec {layout.spec.name!r}: needs deep features for this model")
        self._columns = columns
        self._plans = [FieldPlan.of(part.embedded) for part in columns]
        shape = [layout.embedded_rows, self.dim]
        self.table = create("deep/embedding_table", shape, padded_normal(stddev, seed, 0), table=True)

    def request(self, inputs: ModelInputs) -> Embedded:
        """The request's deep columns, r rows."""
        return self._embedded(0, inputs.request_ids, inputs.request_floats)

    def candidate(self, inputs: ModelInputs) -> Embedded:
        """The candidates' deep columns, n rows."""
        return self._embedded(1, inputs.candidate_ids, inputs.candidate_floats)

    def _embedded(self, which: int, ids: tf.Tensor, floats: tf.Tensor) -> Embedded:
        vectors = fused_embedding(self.table, ids, self._plans[which], self.dim)
        return Embedded(vectors, select(floats, self._columns[which].deep_floats))
