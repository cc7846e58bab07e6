"""A dense layer that computes the request's part of the input once for all candidates.

    h_n = relu(x_r(n) R + x_n C + b)

R [request inputs, units] and C [candidate inputs, units] are the two blocks of one dense layer's kernel; r(n) is the
request of candidate n. x_r R + b is computed once per request and then gathered.
"""

import tensorflow as tf


def request_share(inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """x R + b for `inputs` [r, request inputs]: [r, units], in the dtype of all arguments."""
    return tf.nn.bias_add(tf.matmul(inputs, kernel), bias)


def split_dense(share: tf.Tensor, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """relu(share + x C) for `inputs` [n, candidate inputs]: [n, units].

    `share` [n, units] is that of each candidate's request.
    """
    return tf.nn.relu(share + tf.matmul(inputs, kernel))
