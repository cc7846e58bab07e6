"""A table in shards on parameter servers.

A lookup takes one message per server, and so do its gradients. `tf.nn.embedding_lookup` asks each shard separately, and
for each id as often as the batch has it. Here a lookup asks for each row once, and a server answers for all its shards
together. Otherwise the many shards that balance the servers would cost more in messages than in data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import tensorflow as tf

from model_training.distributed.parameter_servers.optimizer import Gradient
from model_training.distributed.parameter_servers.partition import bounds


@dataclass(frozen=True, slots=True)
class _Lookup:
    """One lookup of u different rows.

    Attributes:
        rows: float32 [u, …].
        shards: int32 [u]: the shard of each row.
        local: one int32 vector per shard: the row numbers inside it, in order of `rows`.
    """

    rows: tf.Tensor
    shards: tf.Tensor
    local: Sequence[tf.Tensor]


class ShardedTable(Sequence[tf.Variable]):
    """The shards in order, as `partition.bounds` cuts them, and all lookups in the graph."""

    def __init__(self, shards: Sequence[tf.Variable]) -> None:
        self._shards = list(shards)
        self._lookups: list[_Lookup] = []
        self._starts = [start for start, _ in bounds(sum(int(s.shape[0]) for s in shards), len(shards))]

    @overload
    def __getitem__(self, index: int) -> tf.Variable: ...
    @overload
    def __getitem__(self, index: slice) -> list[tf.Variable]: ...
    def __getitem__(self, index: int | slice) -> tf.Variable | list[tf.Variable]:
        return self._shards[index]

    def __len__(self) -> int:
        return len(self._shards)

    def rows(self, ids: tf.Tensor) -> tf.Tensor:
        """The rows with the numbers `ids`, int32 [d0, …]: float32 [d0, …, *shape of a row]."""
        different, at = tf.unique(tf.reshape(ids, [-1]))
        # int32 [u]; the encoder guarantees 0 <= id < number of rows.
        shards = tf.searchsorted(tf.constant(self._starts), different, side="right") - 1
        local = different - tf.gather(tf.constant(self._starts), shards)
        asked = tf.dynamic_partition(local, shards, len(self))
        places = tf.dynamic_partition(tf.range(tf.size(different)), shards, len(self))
        answers = [
            (tf.concat([places[i] for i in own], 0), self._answer(device, own, asked))
            for device, own in self._by_device().items()
        ]
        rows = tf.dynamic_stitch(*map(list, zip(*answers, strict=True)))
        self._lookups.append(_Lookup(rows, shards, asked))
        found = tf.gather(rows, at)
        return tf.reshape(found, tf.concat([tf.shape(ids), self._shards[0].shape[1:]], 0))

    def gradients(self, loss: tf.Tensor) -> list[Gradient]:
        """The gradients of the rows that `loss` depends on, per shard.

        A row repeats if several lookups have it.
        """
        found = zip(self._lookups, tf.gradients(loss, [lookup.rows for lookup in self._lookups]), strict=True)
        parts = [(lookup, _partitioned(lookup, slices, len(self))) for lookup, slices in found if slices is not None]
        return [
            (
                tf.IndexedSlices(
                    tf.concat([values[i] for _, values in parts], 0),
                    tf.concat([lookup.local[i] for lookup, _ in parts], 0),
                ),
                shard,
            )
            for i, shard in enumerate(self._shards)
        ]

    def _by_device(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for i, shard in enumerate(self._shards):
            found.setdefault(shard.device, []).append(i)
        return found

    def _answer(self, device: str, own: Sequence[int], asked: Sequence[tf.Tensor]) -> tf.Tensor:
        """The rows from one server, in order of its shards."""
        counts = tf.stack([tf.size(asked[i]) for i in own])
        question = tf.concat([counts, *(asked[i] for i in own)], 0)
        with tf.compat.v1.device(device):
            local = tf.split(question[len(own) :], question[: len(own)], num=len(own))
            return tf.concat([tf.gather(self._shards[i], part) for i, part in zip(own, local, strict=True)], 0)


def _partitioned(lookup: _Lookup, slices: tf.IndexedSlices, shards: int) -> list[tf.Tensor]:
    """The gradient of a lookup's rows by shard, each row once."""
    sums = tf.math.unsorted_segment_sum(slices.values, slices.indices, tf.shape(lookup.rows)[0])
    return list(tf.dynamic_partition(sums, lookup.shards, shards))
