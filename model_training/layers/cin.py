"""One layer of a compressed interaction network (CIN): products of fields, dimension by dimension, as feature maps.

    X^k_h = Σ_i Σ_j W^kh_ij (X^(k-1)_i ⊙ X^0_j),      h = 1 … H_k,  i = 1 … H_(k-1),  j = 1 … m

X^0 holds the m fields' vectors of `dim` numbers, X^k the H_k feature maps of layer k, ⊙ multiplies element by element.
The sum over j comes first here: with one matrix for each dimension d

    M^k_d[i, h] = Σ_j W^kh_ij X^0_jd,      X^k_hd = Σ_i X^(k-1)_id M^k_d[i, h]

M^k is linear in the fields. So the share of a request's fields in it, most of the work, is worked out once a request,
gathered, and that of a candidate's fields is added; this holds in every layer. In the first layer X^0 stands on both
sides; as products commute, the pairs of a request's fields, (i, j) and (j, i) of a mixed pair, and the pairs of a
candidate's fields need one block of W each, and the first are worked out once a request, too.
Lian et al.: xDeepFM: Combining Explicit and Implicit Feature Interactions (2018), equation 6 (its f is the identity).
"""

import tensorflow as tf


def interaction_matrices(fields: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """M of float32 `fields` [n, dim, m] and `kernel` [m, maps before × maps]: float32 [n, dim, maps before × maps]."""
    return tf.tensordot(fields, kernel, axes=1)


def compress(before: tf.Tensor, matrices: tf.Tensor, maps: int) -> tf.Tensor:
    """X of this layer, float32 [n, dim, maps].

    Args:
        before: the maps before, in the first layer the fields; float32 [n, dim, maps before].
        matrices: M, float32 [n, dim, maps before × maps].
    """
    rows, dim, count = tf.shape(before)[0], before.shape[1], before.shape[2]
    shaped = tf.reshape(matrices, [rows, dim, count, maps])
    return tf.squeeze(tf.matmul(before[:, :, None, :], shaped), axis=2)
