"""How models create their variables: by name, shape and initializer, through a factory.

A single process creates plain variables; the factory of parameter servers cuts tables into shards. The model's code is
the same for both.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Protocol

import tensorflow as tf

Initializer = Callable[[Sequence[int]], tf.Tensor]

_PHILOX = 1
_GROUP = 4
"""Philox makes this many numbers for each value of its counter."""


class TableInitializer(Protocol):
    """The initial values of a table, or of some of its rows."""

    def __call__(self, shape: Sequence[int], first: int = 0) -> tf.Tensor:
        """The rows from number `first` on, float32 `shape`.

        A row has the same bits in any range that contains it, so each server computes the rows that it holds.
        """


class VariableFactory(Protocol):
    """Creates float32 variables."""

    def __call__(
        self, name: str, shape: Sequence[int], initializer: Initializer, *, table: bool = False
    ) -> tf.Variable:
        """Creates the variable `name` of `shape`.

        Only a `table` may be returned as shards along the first axis, in order; `layers.table.rows_of` reads it. Its
        initializer is a `TableInitializer`.
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


def zeros(shape: Sequence[int], first: int = 0) -> tf.Tensor:
    """Initialises with zeros, also a table's rows."""
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


def padded_normal(stddev: float, seed: int, salt: int) -> TableInitializer:
    """Normal with mean zero; the first row is padding and stays zero."""

    def initialize(shape: Sequence[int], first: int = 0) -> tf.Tensor:
        length = prod(shape[1:])
        padding = 1 if first == 0 else 0
        # The padding row has no random numbers, so row 1 has the first ones.
        start, count = (first + padding - 1) * length, (shape[0] - padding) * length
        drawn = stddev * _standard_normal([seed, salt], start, count)
        return tf.reshape(tf.concat([tf.zeros([length]), drawn], axis=0) if padding else drawn, shape)

    return initialize


def _standard_normal(seed: Sequence[int], start: int, count: int) -> tf.Tensor:
    """Numbers `start` to `start + count` of `tf.random.stateless_normal`'s sequence of `seed`."""
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
    # The counter's low half is 0 at the beginning and cannot overflow.
    counter += tf.constant([start // _GROUP, 0], tf.uint64)
    before = start % _GROUP
    drawn = tf.raw_ops.StatelessRandomNormalV2(shape=[before + count], key=key, counter=counter, alg=_PHILOX)
    return drawn[before:] if before else drawn
