"""Gradients on their way to parameter servers: one server's in three tensors. A message costs more than its bytes."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from model_training.distributed.parameter_servers.optimizer import Gradient


class Packed(NamedTuple):
    """One process's gradients of all variables of a server.

    Attributes:
        floats: float32 [n]: the dense ones, then the values of tables' rows.
        rows: int32 [r]: numbers of these rows.
        counts: int32 [t]: how many of them are of each table.
    """

    floats: tf.Tensor
    rows: tf.Tensor
    counts: tf.Tensor


class Packing:
    """How those of one server are packed.

    Args:
        gradients: this process's own, at least one.
    """

    def __init__(self, device: str, gradients: Sequence[Gradient]) -> None:
        self.device = device
        self._dense = [(g, v) for g, v in gradients if not isinstance(g, tf.IndexedSlices)]
        self._tables = [(g, v) for g, v in gradients if isinstance(g, tf.IndexedSlices)]
        self._sizes = [v.shape.num_elements() for _, v in self._dense]
        self._widths = [v.shape[1:].num_elements() for _, v in self._tables]

    def packed(self) -> Packed:
        """This process's own."""
        return Packed(
            _flat([*(g for g, _ in self._dense), *(g.values for g, _ in self._tables)], tf.float32),
            _flat([g.indices for g, _ in self._tables], tf.int32),
            _flat([tf.size(g.indices) for g, _ in self._tables], tf.int32),
        )

    def nothing(self) -> Packed:
        """Dense gradients of 0, and no rows."""
        return Packed(tf.zeros([sum(self._sizes)]), tf.zeros([0], tf.int32), tf.zeros([len(self._tables)], tf.int32))

    def unpacked(self, parts: Sequence[Packed], contributions: float | tf.Tensor = 1.0) -> list[Gradient]:
        """The gradients of all `parts`, on the server.

        Returns:
            Of dense variables their sum over `contributions`, of tables the rows of one part behind those of the other.
        """
        with tf.compat.v1.device(self.device):
            dense, values, rows = zip(*map(self._separated, parts), strict=True)
            means = tf.split(tf.add_n(dense) / contributions, self._sizes) if self._dense else []
            gradients: list[Gradient] = [
                (tf.reshape(mean, v.shape), v) for mean, (_, v) in zip(means, self._dense, strict=True)
            ]
            for t, (_, v) in enumerate(self._tables):
                of_rows = tf.reshape(tf.concat([part[t] for part in values], 0), [-1, *v.shape[1:]])
                gradients.append((tf.IndexedSlices(of_rows, tf.concat([part[t] for part in rows], 0)), v))
        return gradients

    def _separated(self, part: Packed) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
        """All dense ones; of each table the values, flat, and the numbers of their rows."""
        dense, tables = sum(self._sizes), len(self._tables)
        if not tables:
            return part.floats, [], []
        counts = tf.ensure_shape(part.counts, [tables])
        values = tf.split(part.floats[dense:], counts * self._widths, num=tables)
        return part.floats[:dense], values, tf.split(part.rows, counts, num=tables)


def by_server(gradients: Sequence[Gradient]) -> list[Packing]:
    """A packing for each server."""
    devices = dict.fromkeys(variable.device for _, variable in gradients)
    return [Packing(device, [g for g in gradients if g[1].device == device]) for device in devices]


def sent(gradients: Sequence[Gradient]) -> list[Gradient]:
    """The same, on their servers, after one journey."""
    return [g for packing in by_server(gradients) for g in packing.unpacked([packing.packed()])]


def _flat(parts: Sequence[tf.Tensor], dtype: tf.DType) -> tf.Tensor:
    return tf.concat([tf.zeros([0], dtype), *(tf.reshape(part, [-1]) for part in parts)], 0)
