"""Cross layers, version 1, with a linear output u of the last layer.

    x_(l+1) = x_0 (x_l · w_l) + b_l + x_l,   l = 0 … L-1;      y = x_L · u

By induction x_l = α_l x_0 + β_l with β_l = b_0 + … + b_(l-1), so no x_l is stored:

    α_0 = 1,   α_(l+1) = α_l (1 + x_0 · w_l) + β_l · w_l,      y = α_L (x_0 · u) + β_L · u

x_0 enters only through its product with the kernel K = [w_0 … w_(L-1) u] [width, L+1]. This product is the sum of a
request's and a candidate's share, so all candidates of a request use the same L+1 numbers.
Wang, Fu, Fu, Wang: Deep & Cross Network for Ad Click Predictions (2017), section 2.2.
"""

import tensorflow as tf


def bias_products(kernel: tf.Tensor, biases: tf.Tensor) -> tf.Tensor:
    """β_0 · w_0 … β_(L-1) · w_(L-1), β_L · u: float32 [L+1].

    Args:
        kernel: K, float32 [width, L+1].
        biases: b_0 … b_(L-1), float32 [L, width].
    """
    sums = tf.pad(tf.cumsum(biases), [[1, 0], [0, 0]])
    return tf.reduce_sum(sums * tf.transpose(kernel), axis=1)


def cross_v1(products: tf.Tensor, constants: tf.Tensor) -> tf.Tensor:
    """The output y, float32 [n].

    Args:
        products: x_0 K, float32 [n, L+1].
        constants: result of `bias_products`, float32 [L+1].
    """
    *inner, output = tf.unstack(products, axis=1)
    *added, last = tf.unstack(constants)
    scale = tf.ones_like(output)
    for product, constant in zip(inner, added, strict=True):
        scale = scale * (1.0 + product) + constant
    return scale * output + last
