"""One layer of a compressed interaction network (CIN): feature maps of field products.

    X^k_h = Σ_i Σ_j W^kh_ij (X^(k-1)_i ⊙ X^0_j),      h = 1 … H_k,  i = 1 … H_(k-1),  j = 1 … m

X^0 has the vectors of the m fields, each of `dim` numbers; X^k has the H_k feature maps of layer k; ⊙ multiplies
element by element. This code computes the sum over j first, with one matrix for each dimension d:

    M^k_d[i, h] = Σ_j W^kh_ij X^0_jd,      X^k_hd = Σ_i X^(k-1)_id M^k_d[i, h]

M^k is linear in the fields. In every layer the request's share of M^k, which is most of the work, is therefore computed
once per request, gathered, and added to the candidate's share. In the first layer X^0 is on both sides. Products
commute, so one block of W is enough for each of: pairs of request fields, mixed pairs (i, j) and (j, i), and pairs of
candidate fields. The pairs of request fields are also computed once per request.
Lian et al.: xDeepFM: Combining Explicit and Implicit Feature Interactions (2018), equation 6 (its f is the identity).
"""

import tensorflow as tf


def interaction_matrices(fields: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """M, float32 [n, dim, maps before × maps].

    Args:
        fields: float32 [n, dim, m].
        kernel: float32 [m, maps before × maps].
    """
    return tf.tensordot(fields, kernel, axes=1)


def compress(before: tf.Tensor, matrices: tf.Tensor, maps: int) -> tf.Tensor:
    """X of this layer, float32 [n, dim, maps].

    Args:
        before: the maps of the layer before, in the first layer the fields; float32 [n, dim, maps before].
        matrices: M, float32 [n, dim, maps before × maps].
    """
    rows, dim, count = tf.shape(before)[0], before.shape[1], before.shape[2]
    shaped = tf.reshape(matrices, [rows, dim, count, maps])
    return tf.squeeze(tf.matmul(before[:, :, None, :], shaped), axis=2)
