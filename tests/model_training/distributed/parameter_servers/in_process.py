"""A cluster of TensorFlow's servers inside this process, and a graph for each of its tasks."""

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from model_training.distributed.cluster import Cluster, Task
from sandbox.host.ports import LOOPBACK, free_ports

Servers = dict[Task, tf.distribute.Server]


def started(*, servers: int, computing: int) -> tuple[Cluster, Servers]:
    """A chief, workers and parameter servers; TensorFlow has no way to stop them."""
    addresses = [f"{LOOPBACK}:{port}" for port in free_ports(servers + computing)]
    cluster = Cluster(tuple(addresses[computing:]), addresses[0], tuple(addresses[1:computing]))
    spec = tf.train.ClusterSpec(cluster.jobs)
    return cluster, {
        task: tf.distribute.Server(spec, job_name=task.role, task_index=task.index) for task in cluster.tasks
    }


@contextmanager
def graph_of(cluster: Cluster, task: Task) -> Iterator[None]:
    """A new graph with variables on parameter servers and operations on `task`."""
    setter = tf.compat.v1.train.replica_device_setter(
        cluster=tf.train.ClusterSpec(cluster.jobs), worker_device=task.device
    )
    with tf.Graph().as_default(), tf.compat.v1.device(setter):
        yield
