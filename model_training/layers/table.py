"""A table as layers read it: one variable, or a table in shards on several servers."""

from typing import Protocol, runtime_checkable

import tensorflow as tf


@runtime_checkable
class Table(Protocol):
    """A table that is not a single variable."""

    def rows(self, ids: tf.Tensor) -> tf.Tensor:
        """The rows with the numbers `ids`, int32 [d0, …]: float32 [d0, …, *shape of a row]."""


def rows_of(table: tf.Variable | Table, ids: tf.Tensor) -> tf.Tensor:
    """The rows `ids`, int32 [d0, …], of `table`: float32 [d0, …, *shape of a row]."""
    return table.rows(ids) if isinstance(table, Table) else tf.nn.embedding_lookup(table, ids)
