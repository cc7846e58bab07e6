"""The chief and the workers of a run with parameter servers: they compute gradients."""

import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from model_training.distributed.cluster import Task
from model_training.distributed.parameter_servers.intact_shards import with_intact_shards
from model_training.distributed.parameter_servers.serving import sign_off
from model_training.distributed.parameter_servers.sessions import (
    await_servers,
    await_variables,
    start_server,
    training_session,
)
from model_training.distributed.parameter_servers.steps import Steps, training_graph
from model_training.distributed.parameter_servers.variables import GreedyStrategy, bytes_by_variable
from model_training.distributed.run import Run
from model_training.early_stopping.validation import read_validation
from model_training.errors import DataError, PeerError, TrainingError, in_a_line
from model_training.training.loop import Progress

_REPORT_SECONDS = 2.0
_LASTING_ERRORS = (tf.errors.ResourceExhaustedError, tf.errors.OutOfRangeError, tf.errors.DataLossError)
"""TensorFlow's errors for a full disk, a limit on file sizes and a damaged shard: a restart would meet them again."""


def compute(run: Run, report: Callable[[Progress], None] | None = None) -> None:
    """Computes gradients until the run has made all its steps.

    The chief's last act is a checkpoint. The run continues from the last checkpoint in `run.checkpoints`, if there is
    one.

    Raises:
        ConfigError: too many backup workers, or the spec does not suit the model.
        DataError: the loss is no longer finite.
        PeerError: the chief lost the connection to a parameter server; workers connect again instead.
        TrainingError: this process cannot listen on its address, the chief has not initialised the variables in time,
            or a checkpoint cannot be written.
    """
    is_judge = run.task.role == "chief"
    validation = read_validation(run.records, run.manifest, run.spec, run.config) if is_judge else None
    server = start_server(run)
    strategy = GreedyStrategy(bytes_by_variable(run.config, run.spec), len(run.cluster.ps))
    setter = tf.compat.v1.train.replica_device_setter(
        cluster=tf.train.ClusterSpec(run.cluster.jobs), worker_device=run.task.device, ps_strategy=strategy
    )
    await_servers(run, server)
    try:
        run = with_intact_shards(run, server)
        with tf.Graph().as_default():
            # Only the graph runtime takes a function that places operations.
            with tf.compat.v1.device(setter):
                steps = training_graph(run, validation)
            _run_steps(run, server, steps, report)
    except tf.errors.DeadlineExceededError as error:
        raise TrainingError(f"{run.task}: the variables were not ready in time: {error.message}") from error
    except _LASTING_ERRORS as error:
        raise TrainingError(f"{run.task}: {in_a_line(error)}") from error
    sign_off(run, server)


def _run_steps(run: Run, server: tf.distribute.Server, steps: Steps, report: Callable[[Progress], None] | None) -> None:
    schedule, is_chief = run.schedule, run.task.role == "chief"
    if not is_chief:
        await_variables(run, server, tf.compat.v1.global_variables()).close()
    session = training_session(run, server, steps.hooks)
    examples = run.config.batch_size * schedule.aggregated
    losses: list[float] = []
    reported = float("-inf")  # the first step is reported at once
    with session:
        # Reading the position makes no step, so no hook may run.
        done, last = session.run_step_fn(lambda step_context: step_context.session.run(steps.position))
        while done < last and not session.should_stop():
            try:
                done, last, value = session.run(steps.step)
            except tf.errors.OutOfRangeError as error:
                # The session takes this error for the end of the data and ends without one. That is right for a worker.
                if is_chief:
                    raise _broken_off(run.task, error) from error
                raise
            losses.append(float(value))
            if not np.isfinite(losses[-1]):
                raise DataError(
                    "the loss is no longer finite: lower the learning rates, or look for huge numbers in the data"
                )
            now = time.monotonic()
            if report is not None and (now - reported >= _REPORT_SECONDS or done >= last):
                # In mode `async` other processes may have made more than the last step.
                made = min(int(done), schedule.steps)
                report(Progress(made, made * examples, float(np.mean(losses))))
                losses.clear()
                reported = now


def _broken_off(task: Task, error: tf.errors.OutOfRangeError) -> TrainingError:
    if error.op is not None and error.op.type.startswith("Save"):
        return TrainingError(f"{task}: a checkpoint cannot be written: {in_a_line(error)}")
    return PeerError(f"{task}: the queue of gradients is closed: {in_a_line(error)}")
