"""A stack of dense layers.

    a_0 = x,   a_(l+1) = relu(a_l W_l + b_l)

Nair, Hinton: Rectified Linear Units Improve Restricted Boltzmann Machines (2010).
"""

from collections.abc import Callable, Sequence

import tensorflow as tf


def dense_stack(
    inputs: tf.Tensor,
    kernels: Sequence[tf.Tensor],
    biases: Sequence[tf.Tensor],
    *,
    drop: Callable[[tf.Tensor, int], tf.Tensor] | None = None,
) -> tf.Tensor:
    """Applies the layers to `inputs` [n, w_0]: [n, w_last], in the dtype of all arguments.

    Args:
        inputs: the output of a layer that is not in the stack, number 0.
        kernels: [w_l, w_(l+1)] each.
        drop: dropout of `inputs` and of each layer's output, by the layer's number.
    """
    if drop is not None:
        inputs = drop(inputs, 0)
    for layer, (kernel, bias) in enumerate(zip(kernels, biases, strict=True), 1):
        inputs = tf.nn.relu(tf.nn.bias_add(tf.matmul(inputs, kernel), bias))
        if drop is not None:
            inputs = drop(inputs, layer)
    return inputs
