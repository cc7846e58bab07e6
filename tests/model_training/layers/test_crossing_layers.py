"""Layers that multiply features, against numbers by hand or by loops in NumPy."""

from itertools import combinations

import keras
import keras_rs
import numpy as np
import pytest
import tensorflow as tf

from model_training.layers.cin import compress, interaction_matrices
from model_training.layers.cross_v1 import bias_products, cross_v1
from model_training.layers.cross_v2 import cross_v2, project
from model_training.layers.factorization_machine import factorization_machine, field_sum, pair_sum
from streamer.types import F32
from tests.model_training.crossings import cin_by_loops

pytestmark = pytest.mark.tensorflow

_OWNER = [0, 1, 1, 0, 1]
"""The request of each of five candidates."""


def _normal(*shape: int, seed: int = 1) -> F32:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def test_pairs_by_hand() -> None:
    # ⟨(1, 2), (3, 4)⟩ + ⟨(1, 2), (5, 6)⟩ + ⟨(3, 4), (5, 6)⟩ = 11 + 17 + 39.
    fields = tf.constant([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    assert pair_sum(fields).numpy().tolist() == [67.0]
    assert pair_sum(fields[:, :1]).numpy().tolist() == [0.0]
    assert pair_sum(fields[:, :0]).numpy().tolist() == [0.0]


@pytest.mark.parametrize(("request_fields", "candidate_fields"), [(4, 3), (0, 3), (4, 0)])
def test_a_factorization_machine_is_the_sum_over_all_pairs(request_fields: int, candidate_fields: int) -> None:
    request, candidate = _normal(2, request_fields, 6), _normal(5, candidate_fields, 6, seed=2)
    fields = np.concatenate([request[_OWNER], candidate], axis=1)
    pairs = combinations(range(fields.shape[1]), 2)
    expected = sum((np.sum(fields[:, i] * fields[:, j], axis=1) for i, j in pairs), np.zeros(5))
    shared = tf.constant(request)
    found = factorization_machine(
        tf.gather(field_sum(shared), _OWNER), tf.gather(pair_sum(shared), _OWNER), tf.constant(candidate)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 3])
def test_cross_layers_of_version_1_are_their_recursion(layers: int) -> None:
    first, kernel, biases = _normal(5, 7), 0.5 * _normal(7, layers + 1), _normal(layers, 7)
    crossed = first
    for layer in range(layers):
        crossed = first * (crossed @ kernel[:, layer])[:, None] + biases[layer] + crossed
    constants = bias_products(tf.constant(kernel), tf.constant(biases))
    found = cross_v1(tf.constant(first @ kernel), constants)
    np.testing.assert_allclose(found, crossed @ kernel[:, -1], rtol=1e-4, atol=1e-4)


def test_a_cross_layer_of_version_1_by_hand() -> None:
    # x_0 = (1, 2), w = (3, 1), b = (1, 0): x_1 = 5 (1, 2) + (1, 0) + (1, 2) = (7, 12); with u = (1, 1) it is 19.
    kernel = tf.constant([[3.0, 1.0], [1.0, 1.0]])
    constants = bias_products(kernel, tf.constant([[1.0, 0.0]]))
    assert constants.numpy().tolist() == [0.0, 1.0]
    assert cross_v1(tf.constant([[1.0, 2.0]]) @ kernel, constants).numpy().tolist() == [19.0]


def test_a_cross_layer_of_version_2_by_hand() -> None:
    # W x = (1·3 + 2·4, 4) = (11, 4); x_0 ⊙ ((11, 4) + (1, 0)) + x = (1·12 + 3, 2·4 + 4).
    first, current = tf.constant([[1.0, 2.0]]), tf.constant([[3.0, 4.0]])
    projected = project(current, [tf.constant([[1.0, 0.0], [2.0, 1.0]])])
    assert projected.numpy().tolist() == [[11.0, 4.0]]
    assert cross_v2(first, current, projected, tf.constant([1.0, 0.0])).numpy().tolist() == [[15.0, 12.0]]


def test_a_projection_of_low_rank_is_that_of_the_product() -> None:
    inputs, down, up = _normal(5, 7), _normal(7, 2), _normal(2, 7)
    found = project(tf.constant(inputs), [tf.constant(down), tf.constant(up)])
    np.testing.assert_allclose(found, inputs @ (down @ up), atol=1e-5)


@pytest.mark.parametrize("rank", [None, 2], ids=["full rank", "low rank"])
def test_cross_layers_of_version_2_are_those_of_keras_rs(rank: int | None) -> None:
    assert keras.backend.backend() == "tensorflow"
    first = tf.constant(_normal(5, 7))
    expected = found = first
    for depth in range(3):
        shapes = [(7, 7)] if rank is None else [(7, rank), (rank, 7)]
        kernels = [_normal(*shape, seed=depth) for shape in shapes]
        bias = _normal(7, seed=depth)
        theirs = keras_rs.layers.FeatureCross(projection_dim=rank)
        theirs(first, first)  # creates its variables
        theirs.set_weights([*kernels, bias])
        expected = theirs(first, expected)
        found = cross_v2(first, found, project(found, kernels), bias)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_layer_of_feature_maps_is_the_sum_over_all_pairs() -> None:
    before, fields, weights = _normal(5, 3, 4), _normal(5, 6, 4, seed=2), _normal(2, 3, 6)
    kernel = weights.transpose(2, 1, 0).reshape(6, 3 * 2)
    found = compress(_dims_first(before), interaction_matrices(_dims_first(fields), tf.constant(kernel)), 2)
    assert found.shape == (5, 4, 2)
    np.testing.assert_allclose(found, cin_by_loops(before, fields, weights).transpose(0, 2, 1), atol=1e-5)


def test_the_first_layer_of_feature_maps_needs_one_block_for_mixed_pairs() -> None:
    request, candidate, weights = _normal(2, 3, 4), _normal(5, 2, 4), _normal(2, 5, 5)
    fields = np.concatenate([request[_OWNER], candidate], axis=1)
    of_request, of_candidate = _dims_first(request), _dims_first(candidate)
    # Both orders of a mixed pair, the request's field first and last, weight the same product.
    mixed = weights[:, 3:, :3] + weights[:, :3, 3:].transpose(0, 2, 1)
    own, shared, rest = (
        interaction_matrices(ends, tf.constant(block.transpose(2, 1, 0).reshape(block.shape[2], -1)))
        for ends, block in (
            (of_request, weights[:, :3, :3]),
            (of_request, mixed),
            (of_candidate, weights[:, 3:, 3:]),
        )
    )
    found = compress(of_candidate, tf.gather(shared, _OWNER) + rest, 2)
    found += tf.gather(compress(of_request, own, 2), _OWNER)
    np.testing.assert_allclose(found, cin_by_loops(fields, fields, weights).transpose(0, 2, 1), atol=1e-5)


def _dims_first(fields: F32) -> tf.Tensor:
    """Fields [n, m, dim] in the layout of feature maps: [n, dim, m]."""
    return tf.constant(fields.transpose(0, 2, 1))
