"""Lookups in a table whose shards are on several servers, and their gradients."""

from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf

from model_training.distributed.parameter_servers.sharded_table import ShardedTable
from model_training.distributed.parameter_servers.variables import PartitionedVariables
from model_training.layers.table import rows_of
from tests.model_training.distributed.parameter_servers.in_process import graph_of, started

pytestmark = pytest.mark.tensorflow

ROWS = 23
VALUES = np.arange(2 * ROWS, dtype=np.float32).reshape(ROWS, 2)


def _table(shards: int) -> ShardedTable:
    def initialize(shape: Sequence[int], first: int = 0) -> tf.Tensor:
        return tf.constant(VALUES[first : first + shape[0]])

    made = PartitionedVariables(shards)("table", [ROWS, 2], initialize, table=True)
    assert isinstance(made, ShardedTable)
    return made


@pytest.mark.parametrize("shards", [1, 4, 30])
def test_rows_are_found_in_every_shard(shards: int) -> None:
    everything = np.arange(ROWS, dtype=np.int32)
    for ids in (everything, everything[::-1].reshape(1, ROWS), np.array([[[7, 0], [7, 22]]]), np.zeros([0, 3], int)):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            table = _table(shards)
            found = rows_of(table, tf.constant(ids, tf.int32))
            session.run(tf.compat.v1.global_variables_initializer())
            np.testing.assert_array_equal(session.run(found), VALUES[ids])


def test_gradients_have_each_row_once_per_lookup_if_the_loss_depends_on_it() -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        table = _table(4)
        first = tf.reduce_sum(rows_of(table, tf.constant([1, 22, 1])))
        second = tf.reduce_sum(10.0 * rows_of(table, tf.constant([[1], [9]])))
        rows_of(table, tf.constant([3]))
        gradients = session.run([slices for slices, _ in table.gradients(first + second)])
    length = [6, 6, 6, 5]
    # Row 1 occurs once for each lookup that has it.
    assert gradients[0].indices.tolist() == [1, 1]
    learnt = np.zeros_like(VALUES)
    for shard, slices in enumerate(gradients):
        assert slices.values.shape[1:] == (2,)
        assert (slices.indices < length[shard]).all()
        np.add.at(learnt, slices.indices + sum(length[:shard]), slices.values)
    expected = np.zeros_like(VALUES)
    expected[[1, 9, 22]] = [[12.0, 12.0], [10.0, 10.0], [1.0, 1.0]]
    np.testing.assert_array_equal(learnt, expected)


def test_a_lookup_sends_one_message_per_server() -> None:
    cluster, servers = started(servers=2, computing=1)
    (chief,) = cluster.computing
    with graph_of(cluster, chief), tf.compat.v1.Session(servers[chief].target) as session:
        table = _table(8)
        assert len({shard.device for shard in table}) == 2
        ids = tf.compat.v1.placeholder(tf.int32, [2, 2])
        found = rows_of(table, ids)
        session.run(tf.compat.v1.global_variables_initializer())
        reported = tf.compat.v1.RunMetadata()
        options = tf.compat.v1.RunOptions(output_partition_graphs=True)
        asked = np.array([[2, 21], [11, 2]])
        np.testing.assert_array_equal(session.run(found, {ids: asked}, options, reported), VALUES[asked])
    messages = [
        node.name
        for graph in reported.partition_graphs
        for node in graph.node
        if node.op == "_Recv" and node.attr["send_device"].s != node.attr["recv_device"].s
    ]
    # One request to each server, and its reply.
    assert len(messages) == 4, messages
