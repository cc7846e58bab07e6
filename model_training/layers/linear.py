"""The wide part: a linear model over hashed features.

    y = Σ_j w[i_j] + Σ_k u_k x_k

w [rows] has one weight for each row of the fused table; w[0] = 0 is padding. A multi-valued feature is n-hot: each of
its values counts in full. Cheng et al.: Wide & Deep Learning for Recommender Systems (2016), section 3.1.
"""

from collections.abc import Sequence

import tensorflow as tf

from model_training.layers.select import select
from model_training.layers.table import Table, rows_of


def linear_ids(weights: tf.Variable | Table, ids: tf.Tensor, columns: Sequence[int]) -> tf.Tensor:
    """Σ_j w[i_j] over the `columns` of int32 `ids` [n, width], in one gather: float32 [n].

    Args:
        weights: float32 [rows].
    """
    return tf.reduce_sum(rows_of(weights, select(ids, columns)), axis=1)


def linear_floats(weights: tf.Tensor, floats: tf.Tensor, columns: Sequence[int]) -> tf.Tensor:
    """Σ_k u_k x_k over the `columns` of float32 `floats` [n, width]: float32 [n].

    Args:
        weights: float32 [len(columns)].
    """
    return tf.linalg.matvec(select(floats, columns), weights)
