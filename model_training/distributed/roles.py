"""What each process of a run does: a parameter server serves, the chief and the workers compute until all is done.

TensorFlow's graph runtime: each computing process has a session of its own that sees itself and the parameter servers,
so the death of a worker concerns no other.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from model_training.build import build_model
from model_training.config import TrainingConfig
from model_training.distributed.cluster import Cluster, Schedule, Task
from model_training.distributed.optimizer import CompositeOptimizer
from model_training.distributed.variables import GreedyStrategy, PartitionedVariables, bytes_by_variable, rules_of
from model_training.errors import DataError, TrainingError
from model_training.input_pipeline import batches
from model_training.manifest import Manifest
from model_training.models.inputs import flat_inputs
from model_training.train import Progress
from model_training.variables import shards_of
from streamer.features import FeatureSpec, Layout

_REPORT_SECONDS = 2.0
_SIGN_OFF_SECONDS = 30.0
_GRACE_SECONDS = 3
"""For the thread that applies gathered gradients: at the end it waits for some that will not come."""


@dataclass(frozen=True, slots=True)
class Run:
    """One process's part in a run.

    Attributes:
        records, manifest: what is trained on; the folder is the same for all.
        checkpoints: a folder that the chief and all parameter servers reach under this name.
    """

    cluster: Cluster
    task: Task
    config: TrainingConfig
    spec: FeatureSpec
    records: Path
    manifest: Manifest
    checkpoints: Path

    @property
    def schedule(self) -> Schedule:
        """Steps of the whole run.

        Raises:
            ConfigError: too many backups.
        """
        examples = self.manifest.examples * self.config.epochs
        computing = len(self.cluster.computing)
        return Schedule.of(self.config.distributed, computing, examples, self.config.batch_size)


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
        DataError: the loss is no longer finite, or there are fewer examples than processes.
        TrainingError: the address cannot be listened on, or the chief has not made the variables in time.
    """
    schedule = run.schedule
    if run.manifest.examples < len(run.cluster.computing):
        raise DataError(f"{run.manifest.examples} examples are too few for {len(run.cluster.computing)} processes")
    server = _server(run)
    strategy = GreedyStrategy(bytes_by_variable(run.config, run.spec), len(run.cluster.ps))
    setter = tf.compat.v1.train.replica_device_setter(
        cluster=tf.train.ClusterSpec(run.cluster.jobs), worker_device=run.task.device, ps_strategy=strategy
    )
    with tf.Graph().as_default():
        # Only the graph runtime places by a function.
        with tf.compat.v1.device(setter):
            fetches, hooks = _training_graph(run, schedule)
        try:
            _run_steps(run, server, fetches, hooks, report)
        except tf.errors.DeadlineExceededError as error:
            raise TrainingError(f"{run.task}: the variables were not ready in time: {error.message}") from error
    _sign_off(run, server)


def _training_graph(run: Run, schedule: Schedule) -> tuple[list[tf.Tensor], list[tf.compat.v1.train.SessionRunHook]]:
    """The count of steps after a step with the loss of the own batch, and what the session needs to know."""
    config, layout = run.config, Layout(run.spec)
    global_step = tf.compat.v1.train.get_or_create_global_step()
    model = build_model(config, run.spec, create=PartitionedVariables(config.distributed.table_shards))
    computing = run.cluster.computing
    data = batches(
        run.records,
        run.manifest,
        config.batch_size,
        epochs=None,
        shuffle_buffer=config.shuffle_buffer,
        seed=config.seed,
        deterministic=config.deterministic,
        share=(computing.index(run.task), len(computing)),
    )
    iterator = tf.compat.v1.data.make_initializable_iterator(data)
    tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
    ids, floats, labels = iterator.get_next()
    logits = model.logits(flat_inputs(layout, ids, floats))
    loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))
    # For TensorBoard, beside the checkpoints.
    tf.compat.v1.summary.scalar("loss", loss)

    rules = rules_of(model, config)
    optimizer = CompositeOptimizer(
        rules,
        padded=[shards_of(table)[0].op.name for table in model.tables],
        batch_size=config.batch_size,
        aggregated=schedule.aggregated,
    )
    hooks = []
    if config.distributed.mode == "sync":
        optimizer = tf.compat.v1.train.SyncReplicasOptimizer(optimizer, schedule.aggregated, schedule.total)
        # No token beyond one for each process and step: it would let a fast one be counted twice for a slow one.
        hooks.append(optimizer.make_session_run_hook(run.task.role == "chief", num_tokens=0))
    trained = [v for v in model.trainable_variables if v.op.name in rules]
    update = optimizer.apply_gradients(optimizer.compute_gradients(loss, trained), global_step)
    if config.distributed.mode == "sync":
        # The thread that fills the queue of tokens is broken off with the session; that is no error to print.
        runner = optimizer.get_chief_queue_runner()
        runner._queue_closed_exception_types += (tf.errors.CancelledError,)  # noqa: SLF001  there is no other way
    with tf.control_dependencies([update]):
        step = tf.identity(global_step.read_value())
    return [step, loss], hooks


def _run_steps(
    run: Run,
    server: tf.distribute.Server,
    fetches: list[tf.Tensor],
    hooks: list[tf.compat.v1.train.SessionRunHook],
    report: Callable[[Progress], None] | None,
) -> None:
    settings, schedule = run.config.distributed, run.schedule
    is_chief = run.task.role == "chief"
    if not is_chief:
        _await_variables(run, server)
    examples = run.config.batch_size * schedule.aggregated
    losses: list[float] = []
    reported = float("-inf")  # the first step is told at once
    with tf.compat.v1.train.MonitoredTrainingSession(
        server.target,
        is_chief=is_chief,
        checkpoint_dir=str(run.checkpoints) if is_chief else None,
        hooks=hooks,
        save_checkpoint_secs=settings.checkpoint_seconds,
        save_summaries_steps=None,
        save_summaries_secs=_REPORT_SECONDS,
        log_step_count_steps=None,
        config=_session_config(run.task),
        stop_grace_period_secs=_GRACE_SECONDS,
        max_wait_secs=settings.wait_seconds,
        save_graph_def=False,
    ) as session:
        done = 0
        while done < schedule.steps and not session.should_stop():
            done, value = session.run(fetches)
            losses.append(float(value))
            if not np.isfinite(losses[-1]):
                raise DataError(
                    "the loss is no longer finite: lower the learning rates, or look for huge numbers in the data"
                )
            now = time.monotonic()
            if report is not None and (now - reported >= _REPORT_SECONDS or done >= schedule.steps):
                # Without gathering, others may have gone on past the last step meanwhile.
                steps = min(int(done), schedule.steps)
                report(Progress(steps, steps * examples, float(np.mean(losses))))
                losses.clear()
                reported = now


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
