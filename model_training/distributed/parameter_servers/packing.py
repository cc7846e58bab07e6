"""Packs the gradients for one parameter server into three tensors.

The cost is per message and not per byte.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from model_training.distributed.parameter_servers.optimizer import Gradient


class Packed(NamedTuple):
    """One process's gradients for all variables of a server.

    Attributes:
        floats: float32 [n]: the dense gradients, then the values of the tables' rows.
        rows: int32 [r]: the numbers of these rows.
        counts: int32 [t]: the number of rows of each table.
    """

    floats: tf.Tensor
    rows: tf.Tensor
    counts: tf.Tensor


class Packing:
    """Packs and unpacks the gradients for one server.

    Args:
        gradients: this process's gradients, at least one.
    """

    def __init__(self, device: str, gradients: Sequence[Gradient]) -> None:
        self.device = device
        self._dense = [(g, v) for g, v in gradients if not isinstance(g, tf.IndexedSlices)]
        self._tables = [(g, v) for g, v in gradients if isinstance(g, tf.IndexedSlices)]
        self._sizes = [v.shape.num_elements() for _, v in self._dense]
        self._widths = [v.shape[1:].num_elements() for _, v in self._tables]

    def packed(self) -> Packed:
        """This process's gradients, packed."""
        return Packed(
            _flat([*(g for g, _ in self._dense), *(g.values for g, _ in self._tables)], tf.float32),
            _flat([g.indices for g, _ in self._tables], tf.int32),
            _flat([tf.size(g.indices) for g, _ in self._tables], tf.int32),
        )

    def nothing(self) -> Packed:
        """Dense gradients of 0 and no rows, packed."""
        return Packed(tf.zeros([sum(self._sizes)]), tf.zeros([0], tf.int32), tf.zeros([len(self._tables)], tf.int32))

    def unpacked(self, parts: Sequence[Packed], contributions: float | tf.Tensor = 1.0) -> list[Gradient]:
        """The gradients of all `parts`, on the server.

        Returns:
            For a dense variable the sum of the parts / `contributions`, for a table the concatenation of their rows.
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
        """The dense gradients; and for each table the flat values and the row numbers."""
        dense, tables = sum(self._sizes), len(self._tables)
        if not tables:
            return part.floats, [], []
        counts = tf.ensure_shape(part.counts, [tables])
        values = tf.split(part.floats[dense:], counts * self._widths, num=tables)
        return part.floats[:dense], values, tf.split(part.rows, counts, num=tables)


def by_server(gradients: Sequence[Gradient]) -> list[Packing]:
    """One packing for each server."""
    devices = dict.fromkeys(variable.device for _, variable in gradients)
    return [Packing(device, [g for g in gradients if g[1].device == device]) for device in devices]


def sent(gradients: Sequence[Gradient]) -> list[Gradient]:
    """The gradients on their servers, sent as one message per server."""
    return [g for packing in by_server(gradients) for g in packing.unpacked([packing.packed()])]


def _flat(parts: Sequence[tf.Tensor], dtype: tf.DType) -> tf.Tensor:
    return tf.concat([tf.zeros([0], dtype), *(tf.reshape(part, [-1]) for part in parts)], 0)
