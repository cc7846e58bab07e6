"""Inputs of networks, for request and candidate: embeddings of the tables, then numbers."""

from dataclasses import dataclass

import tensorflow as tf

from model_training.columns import ColumnPair
from model_training.errors import ConfigError
from model_training.layers.fused_embedding import FieldPlan, fused_embedding
from model_training.layers.select import select
from model_training.parts.inputs import ModelInputs
from model_training.parts.variables import VariableFactory, padded_normal
from streamer.features import Layout

_SALT = 10_000
"""Each further table has its own random numbers."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """The deep columns of one input, n rows.

    Attributes:
        vectors: float32 [n, sum of the fields' dimensions], one field after another.
        numbers: float32 [n, k].
    """

    vectors: tf.Tensor
    numbers: tf.Tensor

    def joined(self) -> tf.Tensor:
        """Concatenates vectors and numbers for a dense layer: float32 [n, width]."""
        return tf.concat([self.vectors, self.numbers], axis=1) if self.numbers.shape[1] else self.vectors


class EmbeddingPart(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """The tables, one for each dimension, and the lookups of request and candidate.

    Invariant: row 0 of a table is padding; it starts at zero, and optimizers keep it at zero.

    Attributes:
        table, more_tables: the tables, one for each dimension, in order of dimension.
        widths: widths of `Embedded.joined` for the request and the candidate.
    """

    def __init__(
        self, layout: Layout, columns: ColumnPair, *, stddev: float, seed: int, create: VariableFactory
    ) -> None:
        super().__init__(name="embedding")
        self._layout, self._columns = layout, columns
        self.widths = (columns[0].deep_width, columns[1].deep_width)
        if not sum(self.widths):
            raise ConfigError(f"spec {layout.spec.name!r}: needs deep features for this model")
        self._plans = [
            FieldPlan.of([field for field in part.embedded if field.dim == rows.dim], rows.start - 1)
            for part in columns
            for rows in layout.embedded
        ]
        first, *others = layout.embedded
        shape = [1 + first.end - first.start, first.dim]
        self.table = create("deep/embedding_table", shape, padded_normal(stddev, seed, 0), table=True)
        self.more_tables = [
            create(
                f"deep/embedding_table_{rows.dim}",
                [1 + rows.end - rows.start, rows.dim],
                padded_normal(stddev, seed, _SALT + rows.dim),
                table=True,
            )
            for rows in others
        ]

    @property
    def tables(self) -> list[tf.Variable]:
        """All tables."""
        return [self.table, *self.more_tables]

    @property
    def dim(self) -> int:
        """The dimensions of all embeddings.

        Raises:
            ConfigError: they differ.
        """
        first, *others = self._layout.embedded
        if others:
            raise ConfigError(
                f"spec {self._layout.spec.name!r}: embedding_dim: features have {first.dim} and {others[0].dim}"
                " dimensions, but this model multiplies embeddings and needs equal ones"
            )
        return first.dim

    def request(self, inputs: ModelInputs) -> Embedded:
        """The request's deep columns, r rows."""
        return self._embedded(0, inputs.request_ids, inputs.request_floats)

    def candidate(self, inputs: ModelInputs) -> Embedded:
        """The candidates' deep columns, n rows."""
        return self._embedded(1, inputs.candidate_ids, inputs.candidate_floats)

    def _embedded(self, which: int, ids: tf.Tensor, floats: tf.Tensor) -> Embedded:
        rows = self._layout.embedded
        plans = self._plans[which * len(rows) :][: len(rows)]
        vectors = [
            fused_embedding(table, ids, plan, of.dim) for table, plan, of in zip(self.tables, plans, rows, strict=True)
        ]
        joined = vectors[0] if len(vectors) == 1 else tf.concat(vectors, axis=1)
        return Embedded(joined, select(floats, self._columns[which].deep_floats))
