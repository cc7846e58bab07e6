"""Selection of columns from a matrix: x[:, c]."""

from collections.abc import Sequence

import tensorflow as tf


def select(matrix: tf.Tensor, columns: Sequence[int]) -> tf.Tensor:
    """The `columns` of `matrix` [n, w]: [n, len(columns)]; no gather for adjacent columns."""
    if not columns:
        return matrix[:, :0]
    first, count = columns[0], len(columns)
    if list(columns) == list(range(first, first + count)):
        return matrix if count == matrix.shape[1] else matrix[:, first : first + count]
    return tf.gather(matrix, tf.constant(columns, dtype=tf.int32), axis=1)
