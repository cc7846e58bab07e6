"""The shards of records that the chief found intact, on a parameter server for the workers.

The chief checks the records for all processes of a run, so each shard is hashed once.
"""

from dataclasses import replace

import tensorflow as tf

from model_training.distributed.cluster import Task
from model_training.distributed.parameter_servers.sessions import await_variables, session_config
from model_training.distributed.parameter_servers.variables import scratch_variable
from model_training.distributed.run import Run


def with_intact_shards(run: Run, server: tf.distribute.Server) -> Run:
    """The run without damaged shards: the chief writes their list, and workers wait for it.

    Raises:
        tf.errors.DeadlineExceededError: the chief has not written it in time.
    """
    files = [shard.file for shard in run.manifest.shards]
    with tf.Graph().as_default():
        with tf.device(Task("ps", 0).device):
            intact = scratch_variable(tf.constant(files, tf.string), name="intact_shards", shape=[None])
        if run.task.role == "chief":
            with tf.compat.v1.Session(server.target, config=session_config(run.task)) as session:
                session.run(intact.initializer)
            return run
        with await_variables(run, server, [intact]) as session:
            found = {name.decode() for name in session.run(intact.read_value())}
    return replace(run, manifest=run.manifest.without(frozenset(files) - found))
