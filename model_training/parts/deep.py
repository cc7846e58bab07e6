"""The deep part: dense layers over request and candidate, with one output number."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import tensorflow as tf

from model_training.layers.dense_stack import dense_stack
from model_training.layers.split_dense import request_share, split_dense
from model_training.parts.variables import VariableFactory, he_normal, zeros


class DeepPart(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """relu layers of `hidden_units`, with one output number.

    The first kernel has two blocks, one for the request and one for the candidate. The sum of several parts' output
    numbers equals one output layer over the concatenation of their inputs.

    Attributes:
        compute: the dtype in which the layers multiply and add. All variables, and the output layer, stay float32.
        drop: dropout, for graphs that are traced inside `dropping`: from the output of a hidden layer, and the layer's
            number, to what the next layer reads. None outside.
    """

    def __init__(
        self, widths: tuple[int, int], hidden_units: Sequence[int], *, seed: int, create: VariableFactory
    ) -> None:
        super().__init__(name="deep")
        self.compute = tf.float32
        self.drop: Callable[[tf.Tensor, int], tf.Tensor] | None = None
        first, last, inputs = hidden_units[0], hidden_units[-1], sum(widths)
        self.request_kernel = create("deep/request_kernel", [widths[0], first], he_normal(seed, 1, inputs))
        self.candidate_kernel = create("deep/candidate_kernel", [widths[1], first], he_normal(seed, 2, inputs))
        self.first_bias = create("deep/first_bias", [first], zeros)
        self.kernels = [
            create(f"deep/kernel_{i}", shape, he_normal(seed, 2 + i))
            for i, shape in enumerate(pairwise(hidden_units), 1)
        ]
        self.biases = [create(f"deep/bias_{i}", [units], zeros) for i, units in enumerate(hidden_units[1:], 1)]
        self.output_kernel = create("deep/output_kernel", [last, 1], he_normal(seed, 3 + len(hidden_units)))

    @property
    def weights(self) -> list[tf.Variable]:
        """The kernels of all layers."""
        return [self.request_kernel, self.candidate_kernel, *self.kernels, self.output_kernel]

    def share(self, request: tf.Tensor) -> tf.Tensor:
        """The share of float32 `request` [r, widths[0]] in the first layer: `compute` [r, units]."""
        weights = self._weights(self.request_kernel, self.first_bias)
        return request_share(tf.cast(request, self.compute), *weights)

    def logit(self, share: tf.Tensor, candidate: tf.Tensor) -> tf.Tensor:
        """The output number, float32 [n].

        Args:
            share: that of each candidate's request, `compute` [n, units].
            candidate: float32 [n, widths[1]].
        """
        hidden = split_dense(share, tf.cast(candidate, self.compute), *self._weights(self.candidate_kernel))
        hidden = dense_stack(hidden, self._weights(*self.kernels), self._weights(*self.biases), drop=self.drop)
        return tf.squeeze(tf.matmul(tf.cast(hidden, tf.float32), self.output_kernel), axis=1)

    def _weights(self, *variables: tf.Variable) -> Sequence[tf.Variable | tf.Tensor]:
        """The variables; in another dtype they become constants of the graph.

        TensorFlow brings the weights of a bfloat16 product into the CPU's own order. It does this once for a constant,
        but in each call for a variable.
        """
        if self.compute == tf.float32:
            return variables
        with tf.init_scope():
            values = [tf.cast(variable, self.compute).numpy() for variable in variables]
        return [tf.constant(value) for value in values]


def deep_parts(model: tf.Module) -> list[DeepPart]:
    """The deep parts of a model."""
    return [part for part in model.submodules if isinstance(part, DeepPart)]


@contextmanager
def dropping(model: tf.Module, rate: float, seed: tf.Tensor) -> Iterator[None]:
    """Graphs that are traced inside have dropout after each hidden layer.

    The outputs that are kept are scaled by 1 / (1 - `rate`).

    Args:
        rate: share of the outputs that are left out.
        seed: int32 [2]; equal seeds leave out the same outputs.

    Srivastava et al.: Dropout: A Simple Way to Prevent Neural Networks from Overfitting (2014).
    """
    parts = deep_parts(model) if rate else []

    def drop(hidden: tf.Tensor, layer: int) -> tf.Tensor:
        own = tf.random.experimental.stateless_fold_in(seed, layer)
        return tf.nn.experimental.stateless_dropout(hidden, rate, own)

    try:
        for part in parts:
            part.drop = drop
        yield
    finally:
        for part in parts:
            part.drop = None
