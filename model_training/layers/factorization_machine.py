"""Second-order factorization machine: the inner products of all pairs of fields.

    y = Σ_(i<j) ⟨v_i, v_j⟩ = ½ Σ_d ((Σ_i v_id)² - Σ_i v_id²)

For fields of a request and of a candidate it is the pairs of each end and the product of the ends' sums, so a request's
sum and pairs serve all of its candidates:

    y = y(request) + y(candidate) + ⟨Σ_i v_request,i , Σ_j v_candidate,j⟩

Rendle: Factorization Machines (2010), lemma 3.1; Guo et al.: DeepFM (2017), section 2.1.
"""

import tensorflow as tf


def field_sum(fields: tf.Tensor) -> tf.Tensor:
    """Σ_i v_i of float32 `fields` [n, fields, dim]: float32 [n, dim]."""
    return tf.reduce_sum(fields, axis=1)


def pair_sum(fields: tf.Tensor) -> tf.Tensor:
    """Σ_(i<j) ⟨v_i, v_j⟩ of float32 `fields` [n, fields, dim]: float32 [n], 0 for fewer than two fields."""
    of_sum = tf.reduce_sum(tf.square(field_sum(fields)), axis=1)
    return 0.5 * (of_sum - tf.reduce_sum(tf.square(fields), axis=[1, 2]))


def factorization_machine(request_sum: tf.Tensor, request_pairs: tf.Tensor, candidate: tf.Tensor) -> tf.Tensor:
    """The pairs of both ends and between them: float32 [n].

    Args:
        request_sum, request_pairs: float32 [n, dim] and [n]: `field_sum` and `pair_sum` of each candidate's request.
        candidate: float32 [n, fields, dim].
    """
    between = tf.reduce_sum(request_sum * field_sum(candidate), axis=1)
    return request_pairs + pair_sum(candidate) + between
