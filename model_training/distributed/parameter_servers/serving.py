"""A parameter server: it holds variables until the processes that compute have signed off.

Each computing process puts its name into a queue on every server when it is done. The server waits for the chief
without a limit, and then for the workers for at most `_SIGN_OFF_SECONDS`.
"""

import time

import tensorflow as tf

from model_training.distributed.cluster import Cluster, Task
from model_training.distributed.parameter_servers.sessions import session_config, start_server
from model_training.distributed.run import Run

_SIGN_OFF_SECONDS = 30.0


def serve(run: Run) -> None:
    """Holds variables until the chief and, within a time limit, all workers have signed off.

    Raises:
        TrainingError: this process cannot listen on its address.
    """
    server = start_server(run)
    missing = {str(task) for task in run.cluster.computing}
    with tf.Graph().as_default():
        signed_off = _sign_offs(run.cluster, run.task.index).dequeue()
        with tf.compat.v1.Session(server.target, config=session_config(run.task)) as session:
            while "chief" in missing:
                missing.discard(session.run(signed_off).decode())
            ends = time.monotonic() + _SIGN_OFF_SECONDS
            while missing and (left := ends - time.monotonic()) > 0:
                options = tf.compat.v1.RunOptions(timeout_in_ms=max(1, int(1000 * left)))
                try:
                    missing.discard(session.run(signed_off, options=options).decode())
                except tf.errors.DeadlineExceededError:
                    # A worker that died and was not restarted does not sign off.
                    return


def sign_off(run: Run, server: tf.distribute.Server) -> None:
    """Tells every parameter server that this process is done."""
    with tf.Graph().as_default():
        enqueue = [_sign_offs(run.cluster, i).enqueue(str(run.task)) for i in range(len(run.cluster.ps))]
        options = tf.compat.v1.RunOptions(timeout_in_ms=int(1000 * _SIGN_OFF_SECONDS))
        with tf.compat.v1.Session(server.target, config=session_config(run.task)) as session:
            for operation in enqueue:
                try:
                    session.run(operation, options=options)
                except (tf.errors.DeadlineExceededError, tf.errors.UnavailableError):
                    # The server has ended, or ends at its own time limit: it does not need this message.
                    continue


def _sign_offs(cluster: Cluster, server: int) -> tf.queue.FIFOQueue:
    """The queue on a parameter server that receives the names of processes that are done."""
    with tf.device(Task("ps", server).device):
        return tf.queue.FIFOQueue(len(cluster.computing), [tf.string], [[]], shared_name="sign_offs")
