"""How models get their variables: by name, shape and initializer, from whoever knows where variables live.

A single process makes plain variables; parameter servers partition the tables. The model's code is the same.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import tensorflow as tf

Initializer = Callable[[Sequence[int]], tf.Tensor]


class VariableFactory(Protocol):
    """Makes variables, float32."""

    def __call__(
        self, name: str, shape: Sequence[int], initializer: Initializer, *, table: bool = False
    ) -> tf.Variable:
        """The variable called `name`, of `shape`.

        Only a `table`, which is read by `rows_of` alone, may come as its shards along the first axis, in order.
        """


def create_variable(
    name: str,
    shape: Sequence[int],
    initializer: Initializer,
    *,
    table: bool = False,
) -> tf.Variable:
    """A plain variable of this process."""
    return tf.Variable(initializer(shape), name=name, dtype=tf.float32)


def shards_of(variable: tf.Variable | Sequence[tf.Variable]) -> list[tf.Variable]:
    """The shards of a table, first to last; a whole variable is its own only one."""
    return list(variable) if isinstance(variable, Sequence) else [variable]


def zeros(shape: Sequence[int]) -> tf.Tensor:
    """All zero."""
    return tf.zeros(shape, tf.float32)


def he_normal(seed: int, salt: int, fan_in: int | None = None) -> Initializer:
    """Normal with variance 2 / `fan_in` (He et al. 2015), by default of the shape's own first axis."""

    def initialize(shape: Sequence[int]) -> tf.Tensor:
        stddev = (2.0 / max(1, fan_in or shape[0])) ** 0.5
        return stddev * tf.random.stateless_truncated_normal(shape, seed=[seed, salt])

    return initialize


def normal(stddev: float, seed: int, salt: int) -> Initializer:
    """Normal around zero."""

    def initialize(shape: Sequence[int]) -> tf.Tensor:
        return stddev * tf.random.stateless_normal(shape, seed=[seed, salt])

    return initialize


def padded_normal(stddev: float, seed: int, salt: int) -> Initializer:
    """Normal, with the first row, which is padding, at zero."""

    def initialize(shape: Sequence[int]) -> tf.Tensor:
        rows = normal(stddev, seed, salt)([shape[0] - 1, *shape[1:]])
        return tf.concat([tf.zeros([1, *shape[1:]]), rows], axis=0)

    return initialize
