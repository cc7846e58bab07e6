"""What each process of a run does: a parameter server serves, the chief and the workers compute until all is done.

TensorFlow's graph runtime: each computing process has a session of its own that sees itself and the parameter servers,
so the death of a worker concerns no other.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from model_training.build import build_model
from model_training.distributed.assignment import Assignment
from model_training.distributed.cluster import Cluster, Task
from model_training.distributed.gathering import Gathering
from model_training.distributed.optimizer import CompositeOptimizer
from model_training.distributed.packing import sent
from model_training.distributed.run import Run
from model_training.distributed.stopping import StoppingHook, stop_variable
from model_training.distributed.variables import (
    GreedyStrategy,
    PartitionedVariables,
    bytes_by_variable,
    gradients_of,
    rules_of,
)
from model_training.early_stopping import Validation
from model_training.errors import DataError, PeerError, TrainingError, in_a_line
from model_training.loop import Progress
from model_training.models.inputs import flat_inputs
from model_training.workflow import read_validation
from streamer.features import Layout

_REPORT_SECONDS = 2.0
_SIGN_OFF_SECONDS = 30.0
_GRACE_SECONDS = 3
"""For the thread that applies gathered gradients: at the end it waits for some that will not come."""
_LASTING_ERRORS = (tf.errors.ResourceExhaustedError, tf.errors.OutOfRangeError, tf.errors.DataLossError)
"""What a full disk, a limit on files' sizes and a damaged shard are to TensorFlow: another start meets them again."""


def serve(run: Run) -> None:
    """Holds variables until the chief and, within a time limit, all workers have said that they are done.

    Raises:
        TrainingError: the address cannot be listened on.
    """
    server = _server(run)
    missing = {str(task) for task in run.cluster.computing}
    with tf.Graph().as_default():
        said = _sign_offs(run.cluster, run.task.index).dequeue()
        with tf.compat.v1.Session(server.target, config=_session_config(run.task)) as session:
            while "chief" in missing:
                missing.discard(session.run(said).decode())
            ends = time.monotonic() + _SIGN_OFF_SECONDS
            while missing and (left := ends - time.monotonic()) > 0:
                options = tf.compat.v1.RunOptions(timeout_in_ms=max(1, int(1000 * left)))
                try:
                    missing.discard(session.run(said, options=options).decode())
                except tf.errors.DeadlineExceededError:
                    # A worker that died for good does not sign off.
                    return


def compute(run: Run, report: Callable[[Progress], None] | None = None) -> None:
    """Computes gradients until the run has made all its steps; the chief's last act is a checkpoint.

    Where `run.checkpoints` holds one already, the run goes on from there.

    Raises:
        ConfigError: too many backups; the spec does not suit the model.
        DataError: the loss is no longer finite.
        PeerError: the connection to a parameter server was lost; of the chief only, others connect again.
        TrainingError: the address cannot be listened on, the chief has not made the variables in time, or a checkpoint
            cannot be written.
    """
    is_judge = run.task.role == "chief"
    validation = read_validation(run.records, run.manifest, run.spec, run.config) if is_judge else None
    server = _server(run)
    strategy = GreedyStrategy(bytes_by_variable(run.config, run.spec), len(run.cluster.ps))
    setter = tf.compat.v1.train.replica_device_setter(
        cluster=tf.train.ClusterSpec(run.cluster.jobs), worker_device=run.task.device, ps_strategy=strategy
    )
    with tf.Graph().as_default():
        # Only the graph runtime places by a function.
        with tf.compat.v1.device(setter):
            steps = _training_graph(run, validation)
        try:
            _run_steps(run, server, steps, report)
        except tf.errors.DeadlineExceededError as error:
            raise TrainingError(f"{run.task}: the variables were not ready in time: {error.message}") from error
        except _LASTING_ERRORS as error:
            raise TrainingError(f"{run.task}: {in_a_line(error)}") from error
    _sign_off(run, server)


@dataclass(frozen=True, slots=True)
class _Steps:
    """The graph of a process's steps.

    Attributes:
        position: int64 scalars: the count of steps now, and the step that is the run's last.
        step: the same after one step, and the loss of the own batch in it.
        hooks: what the session needs to know.
    """

    position: tuple[tf.Tensor, tf.Tensor]
    step: tuple[tf.Tensor, tf.Tensor, tf.Tensor]
    hooks: list[tf.compat.v1.train.SessionRunHook] = field(default_factory=list)


def _training_graph(run: Run, validation: Validation | None) -> _Steps:
    schedule = run.schedule
    config, layout = run.config, Layout(run.spec)
    global_step = tf.compat.v1.train.get_or_create_global_step()
    model = build_model(config, run.spec, create=PartitionedVariables(config.distributed.table_shards))
    assignment = Assignment(run)
    ids, floats, labels = assignment.batch
    logits = model.logits(flat_inputs(layout, ids, floats))
    loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))
    # For TensorBoard, beside the checkpoints.
    tf.compat.v1.summary.scalar("loss", loss)

    rules = rules_of(model, config)
    gradients = gradients_of(loss, model)
    padded, hooks = [table[0].op.name for table in model.tables], []
    if config.distributed.mode == "async":
        optimizer = CompositeOptimizer(rules, padded=padded, batch_size=config.batch_size)
        update = optimizer.apply_gradients(sent(gradients), global_step)
    else:
        gathering = Gathering(run.cluster, run.task, gradients, global_step, aggregated=schedule.aggregated)
        if run.task.role == "chief":
            taken, count = gathering.taken()
            optimizer = CompositeOptimizer(rules, padded=padded, batch_size=config.batch_size, contributions=count)
            hooks.append(gathering.applying(optimizer.apply_gradients(taken, global_step)))
        update = tf.group(assignment.keeping(gathering.was_missed), gathering.ended)
    # In any graph, so that a run may go on with early stopping that had begun without.
    stop_at = stop_variable()

    def position() -> tuple[tf.Tensor, tf.Tensor]:
        stop, steps = stop_at.read_value(), tf.constant(schedule.steps, tf.int64)
        return tf.identity(global_step.read_value()), tf.where(stop > 0, tf.minimum(stop, steps), steps)

    with tf.control_dependencies([update]):
        made, last = position()
    if validation is not None and config.early_stopping is not None:
        hooks.append(StoppingHook(run, config.early_stopping, validation, model, made=made, stop_at=stop_at))
    return _Steps(position(), (made, last, loss), hooks)


def _run_steps(
    run: Run, server: tf.distribute.Server, steps: _Steps, report: Callable[[Progress], None] | None
) -> None:
    settings, schedule = run.config.distributed, run.schedule
    is_chief = run.task.role == "chief"
    # TensorFlow asks servers that are not there for ever.
    with _within(settings.wait_seconds, f"{run.task}: the parameter servers have not answered"):
        _reach(run, server)
    if not is_chief:
        _await_variables(run, server)
    session = _session(run, server, steps)
    examples = run.config.batch_size * schedule.aggregated
    losses: list[float] = []
    reported = float("-inf")  # the first step is told at once
    with session:
        # What is done already is not done again; the hooks are for steps.
        done, last = session.run_step_fn(lambda step_context: step_context.session.run(steps.position))
        while done < last and not session.should_stop():
            try:
                done, last, value = session.run(steps.step)
            except tf.errors.OutOfRangeError as error:
                # To the session it is the end of all data, and no error. Workers are let go by it.
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
                # Without gathering, others may have gone on past the last step meanwhile.
                made = min(int(done), schedule.steps)
                report(Progress(made, made * examples, float(np.mean(losses))))
                losses.clear()
                reported = now


class _OneSessionHook(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc]  # TensorFlow has no types
    """Ends the chief where TensorFlow would begin another session, from a checkpoint that the others are ahead of."""

    def __init__(self, task: Task) -> None:
        self._task, self._has_begun = task, False

    # The name is that of the base class.

    def after_create_session(self, session: tf.compat.v1.Session, coord: tf.train.Coordinator) -> None:
        """Lets the first one pass."""
        if self._has_begun:
            raise PeerError(f"{self._task}: the connection to a parameter server was lost")
        self._has_begun = True


def _session(run: Run, server: tf.distribute.Server, steps: _Steps) -> tf.compat.v1.train.MonitoredSession:
    is_chief = run.task.role == "chief"
    return tf.compat.v1.train.MonitoredTrainingSession(
        server.target,
        is_chief=is_chief,
        checkpoint_dir=str(run.checkpoints) if is_chief else None,
        hooks=[_OneSessionHook(run.task), *steps.hooks] if is_chief else steps.hooks,
        save_checkpoint_secs=run.config.distributed.checkpoint_seconds,
        save_summaries_steps=None,
        save_summaries_secs=_REPORT_SECONDS,
        log_step_count_steps=None,
        config=_session_config(run.task),
        stop_grace_period_secs=_GRACE_SECONDS,
        max_wait_secs=run.config.distributed.wait_seconds,
        save_graph_def=False,
    )


def _broken_off(task: Task, error: tf.errors.OutOfRangeError) -> TrainingError:
    if error.op is not None and error.op.type.startswith("Save"):
        return TrainingError(f"{task}: a checkpoint cannot be written: {in_a_line(error)}")
    return PeerError(f"{task}: gradients are not gathered any more: {in_a_line(error)}")


@contextmanager
def _within(seconds: float, otherwise: str) -> Iterator[None]:
    """Ends this process, saying `otherwise`, if what is inside takes longer; it may be where no signal reaches it."""

    def give_up() -> None:
        sys.stderr.write(f"error: {otherwise} in {seconds:g} s\n")
        sys.stderr.flush()
        os._exit(PeerError.status)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _reach(run: Run, server: tf.distribute.Server) -> None:
    """Returns when all that this process sees of the cluster is there."""
    with tf.Graph().as_default(), tf.compat.v1.Session(server.target, config=_session_config(run.task)) as session:
        session.run(tf.no_op())


def _await_variables(run: Run, server: tf.distribute.Server) -> None:
    """Waits until the chief has given all variables a value: sooner noticed than by the session's own, slow polling."""
    unready = tf.compat.v1.report_uninitialized_variables(tf.compat.v1.global_variables())
    manager = tf.compat.v1.train.SessionManager(ready_op=unready, recovery_wait_secs=1)
    config = _session_config(run.task)
    manager.wait_for_session(server.target, config, max_wait_secs=run.config.distributed.wait_seconds).close()


def _server(run: Run) -> tf.distribute.Server:
    try:
        return tf.distribute.Server(
            tf.train.ClusterSpec(run.cluster.jobs),
            job_name=run.task.role,
            task_index=run.task.index,
            config=_session_config(run.task),
        )
    except tf.errors.OpError as error:
        address = run.cluster.jobs[run.task.role][run.task.index]
        raise TrainingError(f"{run.task}: cannot listen on {address}: {error.message}") from error


def _session_config(task: Task) -> tf.compat.v1.ConfigProto:
    """A view of the cluster in which a process is nobody's neighbour but the parameter servers'."""
    seen = [task.device] if task.role == "ps" else ["/job:ps", task.device]
    return tf.compat.v1.ConfigProto(device_filters=seen)


def _sign_offs(cluster: Cluster, server: int) -> tf.queue.FIFOQueue:
    """The queue on a parameter server by which it learns who is done."""
    with tf.device(Task("ps", server).device):
        return tf.queue.FIFOQueue(len(cluster.computing), [tf.string], [[]], shared_name="sign_offs")


def _sign_off(run: Run, server: tf.distribute.Server) -> None:
    with tf.Graph().as_default():
        enqueue = [_sign_offs(run.cluster, i).enqueue(str(run.task)) for i in range(len(run.cluster.ps))]
        options = tf.compat.v1.RunOptions(timeout_in_ms=int(1000 * _SIGN_OFF_SECONDS))
        with tf.compat.v1.Session(server.target, config=_session_config(run.task)) as session:
            for said in enqueue:
                try:
                    session.run(said, options=options)
                except (tf.errors.DeadlineExceededError, tf.errors.UnavailableError):
                    # It is gone, or will go when its own time is up: either way nobody waits for this word.
                    continue
