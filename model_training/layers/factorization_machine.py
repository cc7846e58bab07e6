"""Second-order factorization machine: the inner products of all pairs of fields.

    y = Σ_(i<j) ⟨v_i, v_j⟩ = ½ Σ_d ((Σ_i v_id)² - Σ_i v_id²)

For the fields of a request and of a candidate, y is the pairs of each plus the inner product of their sums. The sum and
the pairs of a request are therefore shared by all its candidates:

    y = y(request) + y(candidate) + ⟨Σ_i v_request,i , Σ_j v_candidate,j⟩

Rendle: Factorization Machines (2010), lemma 3.1; Guo et al.: DeepFM (2017), section 2.1.
"""

import tensorflow as tf


def field_sum(fields: tf.Tensor) -> tf.Tensor:
    """Σ_i v_i for float32 `fields` [n, fields, dim]: float32 [n, dim]."""
    return tf.reduce_sum(fields, axis=1)


def pair_sum(fields: tf.Tensor) -> tf.Tensor:
    """Σ_(i<j) ⟨v_i, v_j⟩ for float32 `fields` [n, fields, dim]: float32 [n].

    The sum is 0 for fewer than two fields.
    """
    of_sum = tf.reduce_sum(tf.square(field_sum(fields)), axis=1)
    return 0.5 * (of_sum - tf.reduce_sum(tf.square(fields), axis=[1, 2]))


def factorization_machine(request_sum: tf.Tensor, request_pairs: tf.Tensor, candidate: tf.Tensor) -> tf.Tensor:
    """y for candidates and their requests: float32 [n].

    Args:
        request_sum, request_pairs: `field_sum` [n, dim] and `pair_sum` [n] of each candidate's request, float32.
        candidate: the candidates' fields, float32 [n, fields, dim].
    """
    between = tf.reduce_sum(request_sum * field_sum(candidate), axis=1)
    return request_pairs + pair_sum(candidate) + between
