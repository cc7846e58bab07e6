"""How models create their variables: by name, shape and initializer, through a factory.

A single process creates plain variables; the factory of parameter servers cuts tables into shards. The model's code is
the same for both.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import tensorflow as tf

Initializer = Callable[[Sequence[int]], tf.Tensor]


class VariableFactory(Protocol):
    """Creates float32 variables."""

    def __call__(
        self, name: str, shape: Sequence[int], initializer: Initializer, *, table: bool = False
    ) -> tf.Variable:
        """Creates the variable `name` of `shape`.

        Only a `table` may be returned as shards along the first axis, in order; `layers.table.rows_of` reads it.
        """


def create_variable(
    name: str,
    shape: Sequence[int],
    initializer: Initializer,
    *,
    table: bool = False,
) -> tf.Variable:
    """Creates a plain variable in this process."""
    return tf.Variable(initializer(shape), name=name, dtype=tf.float32)


def shards_of(variable: tf.Variable | Sequence[tf.Variable]) -> list[tf.Variable]:
    """The shards of a table, first to last; a whole variable is its only shard."""
    return list(variable) if isinstance(variable, Sequence) else [variable]


def zeros(shape: Sequence[int]) -> tf.Tensor:
    """Initialises with zeros."""
    return tf.zeros(shape, tf.float32)


def he_normal(seed: int, salt: int, fan_in: int | None = None) -> Initializer:
    """Truncated normal with σ² = 2 / `fan_in` before truncation (He et al. 2015).

    By default `fan_in` is the first axis of the shape.
    """

    def initialize(shape: Sequence[int]) -> tf.Tensor:
        stddev = (2.0 / max(1, fan_in or shape[0])) ** 0.5
        return stddev * tf.random.stateless_truncated_normal(shape, seed=[seed, salt])

    return initialize


def normal(stddev: float, seed: int, salt: int) -> Initializer:
    """Normal with mean zero."""

    def initialize(shape: Sequence[int]) -> tf.Tensor:
        return stddev * tf.random.stateless_normal(shape, seed=[seed, salt])

    return initialize


def padded_normal(stddev: float, seed: int, salt: int) -> Initializer:
    """Normal with mean zero; the first row is padding and stays zero."""

    def initialize(shape: Sequence[int]) -> tf.Tensor:
        rows = normal(stddev, seed, salt)([shape[0] - 1, *shape[1:]])
        return tf.concat([tf.zeros([1, *shape[1:]]), rows], axis=0)

    return initialize
