"""The graph by which a computing process makes steps, in modes `sync` and `async`."""

from dataclasses import dataclass, field

import tensorflow as tf

from model_training.distributed.parameter_servers.assignment import Assignment
from model_training.distributed.parameter_servers.optimizer import CompositeOptimizer
from model_training.distributed.parameter_servers.packing import sent
from model_training.distributed.parameter_servers.stopping_hook import StoppingHook, stop_variable
from model_training.distributed.parameter_servers.synchronous_update import SynchronousUpdate
from model_training.distributed.parameter_servers.variables import PartitionedVariables, gradients_of, rules_of
from model_training.distributed.run import Run
from model_training.early_stopping.validation import Validation
from model_training.models.build import build_model
from model_training.training.schedule import Clock
from model_training.training.step import dropout_seed, losses
from streamer.features import Layout


@dataclass(frozen=True, slots=True)
class Steps:
    """The tensors of a process's steps.

    Attributes:
        position: two int64 scalars: the number of steps made so far, and the number of the run's last step.
        step: evaluates one step: `position` after it, and this process's loss in it.
        hooks: hooks that the session needs.
    """

    position: tuple[tf.Tensor, tf.Tensor]
    step: tuple[tf.Tensor, tf.Tensor, tf.Tensor]
    hooks: list[tf.compat.v1.train.SessionRunHook] = field(default_factory=list)


def training_graph(run: Run, validation: Validation | None) -> Steps:
    """Adds the model, its gradients and the update to the graph under construction.

    Args:
        validation: the examples of early stopping; None in a process that does not evaluate.

    Raises:
        ConfigError: too many backup workers, or the spec does not suit the model.
    """
    schedule = run.schedule
    config, layout = run.config, Layout(run.spec)
    global_step = tf.compat.v1.train.get_or_create_global_step()
    create = PartitionedVariables(config.distributed.table_shards)
    model = build_model(config, run.spec, log_odds=run.manifest.log_odds, create=create)
    assignment = Assignment(run)
    made = global_step.read_value()
    computing = run.cluster.computing
    seed = dropout_seed(config.seed, made, (computing.index(run.task), len(computing)))
    loss, minimised = losses(model, layout, assignment.batch, deep=config.deep, seed=seed)
    # TensorBoard reads it from the folder of checkpoints.
    tf.compat.v1.summary.scalar("loss", loss)

    rules = rules_of(model, config, Clock(lambda: tf.cast(made, tf.float32), schedule.steps))
    gradients = gradients_of(minimised, model)
    padded, hooks = [table[0].op.name for table in model.tables], []
    if config.distributed.mode == "async":
        optimizer = CompositeOptimizer(rules, padded=padded, batch_size=config.batch_size, clip_norm=config.clip_norm)
        update = optimizer.apply_gradients(sent(gradients), global_step)
    else:
        synchronous = SynchronousUpdate(run.cluster, run.task, gradients, global_step, aggregated=schedule.aggregated)
        if run.task.role == "chief":
            taken, count = synchronous.taken()
            optimizer = CompositeOptimizer(
                rules,
                padded=padded,
                batch_size=config.batch_size,
                contributions=count,
                clip_norm=config.clip_norm,
            )
            hooks.append(synchronous.applying(optimizer.apply_gradients(taken, global_step)))
        update = tf.group(assignment.keeping(synchronous.was_missed), synchronous.ended)
    # Part of every graph: a run that began without early stopping can then continue with it.
    stop_at = stop_variable()

    def position() -> tuple[tf.Tensor, tf.Tensor]:
        stop, steps = stop_at.read_value(), tf.constant(schedule.steps, tf.int64)
        return tf.identity(global_step.read_value()), tf.where(stop > 0, tf.minimum(stop, steps), steps)

    with tf.control_dependencies([update]):
        made, last = position()
    if validation is not None and config.early_stopping is not None:
        hooks.append(StoppingHook(run, config.early_stopping, validation, model, made=made, stop_at=stop_at))
    return Steps(position(), (made, last, loss), hooks)
