"""A stack of dense layers.

    a_0 = x,   a_(l+1) = relu(a_l W_l + b_l)

Nair, Hinton: Rectified Linear Units Improve Restricted Boltzmann Machines (2010).
"""

from collections.abc import Sequence

import tensorflow as tf


def dense_stack(inputs: tf.Tensor, kernels: Sequence[tf.Tensor], biases: Sequence[tf.Tensor]) -> tf.Tensor:
    """Applies the layers to `inputs` [n, w_0]: [n, w_last], in the dtype of all arguments.

    `kernels[l]` is [w_l, w_(l+1)].
    """
    for kernel, bias in zip(kernels, biases, strict=True):
        inputs = tf.nn.relu(tf.nn.bias_add(tf.matmul(inputs, kernel), bias))
    return inputs
