"""Layers that multiply features with each other, against numbers worked out by hand or by loops in numpy."""

from itertools import combinations

import numpy as np
import pytest
import tensorflow as tf

from model_training.layers.factorization_machine import factorization_machine, field_sum, pair_sum
from streamer.types import F32

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
