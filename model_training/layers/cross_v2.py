"""A cross layer, version 2: a matrix weights the products of all pairs of inputs.

    x_(l+1) = x_0 ⊙ (W_l x_l + b_l) + x_l              full rank
    x_(l+1) = x_0 ⊙ (U_l (V_lᵀ x_l) + b_l) + x_l       low rank

⊙ multiplies element by element; W is [width, width], U and V are [width, rank]. Inputs are rows here, so the kernels
are transposed: (Wᵀ,) or (V, Uᵀ). The first kernel of the first layer reads x_0 only. Its product is the sum of the
request's share, computed once per request, and the candidate's share.
Wang et al.: DCN V2: Improved Deep & Cross Network (2021), equations 1 and 2.
"""

from collections.abc import Sequence

import tensorflow as tf


def project(inputs: tf.Tensor, kernels: Sequence[tf.Tensor]) -> tf.Tensor:
    """W x, or U (Vᵀ x): multiplies float32 `inputs` [n, width] by each of `kernels` in turn."""
    for kernel in kernels:
        inputs = tf.matmul(inputs, kernel)
    return inputs


def cross_v2(first: tf.Tensor, current: tf.Tensor, projected: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """x_(l+1) from x_0, x_l and W_l x_l, all float32 [n, width], and `bias` [width]."""
    return first * tf.nn.bias_add(projected, bias) + current
