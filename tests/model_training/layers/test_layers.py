"""Each layer against numbers computed by hand or in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from model_training.columns import Field
from model_training.layers.dense_stack import dense_stack
from model_training.layers.fused_embedding import FieldPlan, fused_embedding
from model_training.layers.linear import linear_floats, linear_ids
from model_training.layers.select import select
from model_training.layers.split_dense import request_share, split_dense

pytestmark = pytest.mark.tensorflow

_TABLE = [[0.0, 0.0], [1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]


def _embed(ids: list[list[int]], *fields: Field) -> list[list[float]]:
    table = tf.constant(_TABLE)
    embedded = fused_embedding(table, tf.constant(ids, dtype=tf.int32), FieldPlan.of(fields), 2)
    assert embedded.shape == (len(ids), 2 * len(fields))
    rows: list[list[float]] = embedded.numpy().tolist()
    return rows


def test_one_value_is_its_row_of_the_table() -> None:
    assert _embed([[1, 4], [2, 2]], Field(0, 1, None, 2), Field(1, 1, None, 2)) == [[1, 2, 7, 8], [3, 4, 3, 4]]


def test_padding_is_not_in_sum_and_mean() -> None:
    ids = [[1, 2, 0], [3, 0, 0], [0, 0, 0]]
    assert _embed(ids, Field(0, 3, "sum", 2)) == [[4, 6], [5, 6], [0, 0]]
    assert _embed(ids, Field(0, 3, "mean", 2)) == [[2, 3], [5, 6], [0, 0]]


def test_fields_of_equal_shape_are_pooled_separately_after_single_ones() -> None:
    ids = [[1, 2, 4, 3, 0]]
    fields = (Field(0, 2, "sum", 2), Field(2, 1, None, 2), Field(3, 2, "sum", 2))
    assert _embed(ids, *fields) == [[7, 8, 4, 6, 5, 6]]


def test_a_table_in_shards_reads_like_a_whole_one() -> None:
    table = tf.constant(_TABLE)
    ids = tf.constant([[1, 4], [0, 2]])
    plan = FieldPlan.of([Field(0, 2, "mean", 2)])
    whole = fused_embedding(table, ids, plan, 2)
    np.testing.assert_array_equal(fused_embedding([table[:3], table[3:]], ids, plan, 2), whole)


def test_no_fields_make_an_empty_matrix() -> None:
    assert fused_embedding(tf.constant(_TABLE), tf.zeros([3, 0], tf.int32), FieldPlan.of([]), 2).shape == (3, 0)


def test_linear_adds_the_weights_of_its_columns() -> None:
    weights = tf.constant([0.0, 0.5, 0.25, 2.0])
    ids = tf.constant([[1, 2, 3], [3, 0, 1]])
    assert linear_ids(weights, ids, [0, 1, 2]).numpy().tolist() == [2.75, 2.5]
    assert linear_ids(weights, ids, [0, 2]).numpy().tolist() == [2.5, 2.5]
    assert linear_ids(weights, ids, []).numpy().tolist() == [0, 0]
    floats = tf.constant([[1.0, 2.0], [3.0, 4.0]])
    assert linear_floats(tf.constant([10.0]), floats, [1]).numpy().tolist() == [20, 40]


def test_select_keeps_the_order_of_the_columns() -> None:
    matrix = tf.constant([[1, 2, 3], [4, 5, 6]])
    assert select(matrix, [0, 1, 2]).numpy().tolist() == [[1, 2, 3], [4, 5, 6]]
    assert select(matrix, [1, 2]).numpy().tolist() == [[2, 3], [5, 6]]
    assert select(matrix, [2, 0]).numpy().tolist() == [[3, 1], [6, 4]]
    assert select(matrix, []).shape == (2, 0)


def test_a_split_layer_is_one_dense_layer_over_both_inputs() -> None:
    rng = np.random.default_rng(3)
    request, candidate, r, c = (rng.normal(size=s).astype(np.float32) for s in ((2, 3), (4, 2), (3, 5), (2, 5)))
    bias = rng.normal(size=5).astype(np.float32)
    owner = [0, 1, 1, 0]
    expected = np.maximum(np.hstack([request[owner], candidate]) @ np.vstack([r, c]) + bias, 0)
    share = request_share(tf.constant(request), tf.constant(r), tf.constant(bias))
    found = split_dense(tf.gather(share, owner), tf.constant(candidate), tf.constant(c))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_dense_stack_by_hand() -> None:
    kernels = [tf.constant([[1.0, -1.0], [2.0, 0.0]]), tf.constant([[3.0], [5.0]])]
    biases = [tf.constant([0.0, 0.5]), tf.constant([-1.0])]
    # First layer: relu([1 + 4, -1 + 0.5]) = [5, 0]; second: relu(15 - 1) = 14.
    assert dense_stack(tf.constant([[1.0, 2.0]]), kernels, biases).numpy().tolist() == [[14.0]]
