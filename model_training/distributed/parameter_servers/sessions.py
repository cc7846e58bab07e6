"""Servers and sessions of TensorFlow's graph runtime, one of each per process.

The session of a computing process sees that process and the parameter servers only, so the death of a worker does not
affect the others.
"""

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import tensorflow as tf

from model_training.distributed.cluster import Task
from model_training.distributed.run import Run
from model_training.errors import PeerError, TrainingError

_SUMMARY_SECONDS = 2.0
_GRACE_SECONDS = 3
"""Time for the chief's update thread to end: it waits for gradients that do not come any more."""


def start_server(run: Run) -> tf.distribute.Server:
    """Starts TensorFlow's server of this process.

    Raises:
        TrainingError: this process cannot listen on its address.
    """
    try:
        return tf.distribute.Server(
            tf.train.ClusterSpec(run.cluster.jobs),
            job_name=run.task.role,
            task_index=run.task.index,
            config=session_config(run.task),
        )
    except tf.errors.OpError as error:
        address = run.cluster.jobs[run.task.role][run.task.index]
        raise TrainingError(f"{run.task}: cannot listen on {address}: {error.message}") from error


def session_config(task: Task) -> tf.compat.v1.ConfigProto:
    """Restricts the devices that a process sees to its own and those of the parameter servers."""
    seen = [task.device] if task.role == "ps" else ["/job:ps", task.device]
    return tf.compat.v1.ConfigProto(device_filters=seen)


def training_session(
    run: Run, server: tf.distribute.Server, hooks: Sequence[tf.compat.v1.train.SessionRunHook]
) -> tf.compat.v1.train.MonitoredSession:
    """The session that makes steps.

    The chief's session also initialises or restores variables and writes checkpoints.
    """
    is_chief = run.task.role == "chief"
    return tf.compat.v1.train.MonitoredTrainingSession(
        server.target,
        is_chief=is_chief,
        checkpoint_dir=str(run.checkpoints) if is_chief else None,
        hooks=[_OneSessionHook(run.task), *hooks] if is_chief else hooks,
        save_checkpoint_secs=run.config.distributed.checkpoint_seconds,
        save_summaries_steps=None,
        save_summaries_secs=_SUMMARY_SECONDS,
        log_step_count_steps=None,
        config=session_config(run.task),
        stop_grace_period_secs=_GRACE_SECONDS,
        max_wait_secs=run.config.distributed.wait_seconds,
        save_graph_def=False,
    )


def await_servers(run: Run, server: tf.distribute.Server) -> None:
    """Returns when all parameter servers answer; ends this process after `wait_seconds`."""
    with (
        # TensorFlow itself waits without a limit.
        _process_timeout(run.config.distributed.wait_seconds, f"{run.task}: the parameter servers have not answered"),
        tf.Graph().as_default(),
        tf.compat.v1.Session(server.target, config=session_config(run.task)) as session,
    ):
        session.run(tf.no_op())


def await_variables(run: Run, server: tf.distribute.Server, variables: Sequence[tf.Variable]) -> tf.compat.v1.Session:
    """Waits until the chief has initialised `variables`, and returns a session.

    This polls faster than TensorFlow's training session does.

    Raises:
        tf.errors.DeadlineExceededError: the variables are not ready in time.
    """
    unready = tf.compat.v1.report_uninitialized_variables(variables)
    manager = tf.compat.v1.train.SessionManager(ready_op=unready, recovery_wait_secs=1)
    config = session_config(run.task)
    return manager.wait_for_session(server.target, config, max_wait_secs=run.config.distributed.wait_seconds)


class _OneSessionHook(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc]  # TensorFlow has no types
    """Ends the chief when TensorFlow is about to begin a second session.

    That session would restore an older checkpoint, which the other processes are ahead of.
    """

    def __init__(self, task: Task) -> None:
        self._task, self._has_begun = task, False

    # The base class gives this name.

    def after_create_session(self, session: tf.compat.v1.Session, coord: tf.train.Coordinator) -> None:
        """Accepts the first session."""
        if self._has_begun:
            raise PeerError(f"{self._task}: the connection to a parameter server was lost")
        self._has_begun = True


@contextmanager
def _process_timeout(seconds: float, message: str) -> Iterator[None]:
    """Ends this process with `message` when the block takes longer than `seconds`.

    This also works where no signal reaches the main thread.
    """

    def end_process() -> None:
        sys.stderr.write(f"error: {message} in {seconds:g} s\n")
        sys.stderr.flush()
        os._exit(PeerError.status)

    timer = threading.Timer(seconds, end_process)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
