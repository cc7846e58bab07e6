"""Synchronous steps: one update from the gradients of several processes.

The gradients of a process enter an update as a whole or not at all.

TensorFlow's `SyncReplicasOptimizer` has one accumulator per variable, and each accepts the gradients that arrive first.
If several processes send at the same time, some variables learn from one process and the rest from another. Here each
process first writes its gradients to its own buffers on the parameter servers. It then sends a mark to the only
accumulator, which accepts the first marks of a step. The chief applies the gradients of the processes whose marks were
accepted.
"""

from collections.abc import Sequence

import tensorflow as tf

from model_training.distributed.cluster import Cluster, Task
from model_training.distributed.parameter_servers.optimizer import Gradient
from model_training.distributed.parameter_servers.packing import Packed, Packing, by_server
from model_training.distributed.parameter_servers.variables import scratch_variable

_QUEUE_LENGTH = 2
"""Notifications per queue: for the process, and for a dead predecessor whose read may still be pending."""
_CLOSED = (tf.errors.OutOfRangeError, tf.errors.CancelledError)
"""Errors by which a pending read ends when the session or the queue closes; they are no failure."""


class SynchronousUpdate:
    """The part of one process in synchronous steps, in the graph under construction.

    Invariants:
    (1) `global_step` counts updates. An update has at least `aggregated` gradients, all computed from the variables as
        the previous update left them.
    (2) All gradients of a process for a step are in one update, or none is in any. The only exception is a process that
        is restarted within the step in which it died.

    Args:
        gradients: this process's gradients, means over its batch.
        step: `global_step`; its server decides which gradients enter an update.
        aggregated: number of gradients that an update waits for.

    Attributes:
        was_missed: bool scalar. Evaluating it sends this process's gradients and waits for the update of their step.
            True if the update was made without them.
        ended: operation after which the process has done its part in that step.
    """

    def __init__(
        self, cluster: Cluster, task: Task, gradients: Sequence[Gradient], step: tf.Variable, *, aggregated: int
    ) -> None:
        own, self._computing = cluster.computing.index(task), len(cluster.computing)
        self._aggregated, self._step = aggregated, step
        is_chief = task.role == "chief"
        senders = range(self._computing) if is_chief else [own]
        self._buffers = {
            packing: {sender: _buffer(packing, sender) for sender in senders} for packing in by_server(gradients)
        }
        with tf.compat.v1.device(step.device):
            self._marks = tf.compat.v1.ConditionalAccumulator(tf.float32, [self._computing], shared_name="marks")
            self._notifications = {
                i: tf.queue.FIFOQueue(_QUEUE_LENGTH, [tf.bool], [[]], shared_name=f"notifications_{i}") for i in senders
            }
        # Not in checkpoints, because its shape depends on the number of processes.
        none_taken = tf.fill([self._computing], tf.constant(-1, tf.int64))
        self._taken_for = scratch_variable(none_taken, name="taken_for", is_set_here=is_chief)
        with tf.device(task.device):
            seen = scratch_variable(step.read_value())
        self.was_missed, self.ended = self._contribute(own, seen)

    def _contribute(self, own: int, seen: tf.Variable) -> tuple[tf.Tensor, tf.Operation]:
        # The variables are read after this value was written, so they belong to this step or the step is over.
        computed_for = seen.read_value()
        written = [
            buffer.assign(part)
            for packing, buffers in self._buffers.items()
            for buffer, part in zip(buffers[own], packing.packed(), strict=True)
        ]
        with tf.control_dependencies(written):
            mark = tf.one_hot(own, self._computing)
        server = self._step.device

        def await_notification(_: tf.Tensor) -> tf.Tensor:
            with tf.compat.v1.device(server), tf.control_dependencies([self._notifications[own].dequeue()]):
                return self._step.read_value()

        # Everything is on the server, so waiting sends no messages.
        with tf.compat.v1.device(server):
            with tf.control_dependencies([self._marks.apply_grad(mark, computed_for)]):
                first, own_step = self._step.read_value(), tf.identity(computed_for)
            (made,) = tf.while_loop(lambda made: made <= own_step, await_notification, [first])
            with tf.control_dependencies([made]):
                was_missed = tf.not_equal(self._taken_for.read_value()[own], own_step)
        return was_missed, seen.assign(made).op

    def taken(self) -> tuple[list[Gradient], tf.Tensor]:
        """Waits for enough gradients of a step and takes them; a part of the chief's update.

        `applying` runs the update.

        Returns:
            The gradients, and the number of processes that they are from, float32 scalar. A dense variable gets the
            mean over these processes, a table the concatenation of their rows.
        """
        with tf.compat.v1.device(self._step.device):
            is_taken = self._marks.take_grad(self._aggregated) > 0.0
            recorded = self._taken_for.assign(tf.where(is_taken, self._step.read_value(), self._taken_for.read_value()))
            with tf.control_dependencies([recorded]):
                is_taken = tf.identity(is_taken)
            contributions = tf.reduce_sum(tf.cast(is_taken, tf.float32))
        gradients: list[Gradient] = []
        for packing, buffers in self._buffers.items():
            with tf.compat.v1.device(packing.device):
                parts = [
                    tf.cond(
                        is_taken[sender],
                        lambda buffer=buffer: Packed(*(variable.read_value() for variable in buffer)),
                        packing.nothing,
                    )
                    for sender, buffer in buffers.items()
                ]
            gradients += packing.unpacked(parts, contributions)
        return gradients, contributions

    def applying(self, update: tf.Operation) -> tf.compat.v1.train.SessionRunHook:
        """The chief's hook: repeats `update`, and notifies all processes after each run."""
        with tf.compat.v1.device(self._step.device), tf.control_dependencies([update]):
            notified = [
                queue.enqueue_many((tf.fill([_QUEUE_LENGTH - queue.size()], True),))
                for queue in self._notifications.values()
            ]
        runner = tf.compat.v1.train.QueueRunner(
            self._notifications[0],  # the chief's
            [tf.group(notified)],
            close_op=tf.group([queue.close() for queue in self._notifications.values()]),
            cancel_op=tf.group([queue.close(cancel_pending_enqueues=True) for queue in self._notifications.values()]),
            queue_closed_exception_types=_CLOSED,
        )
        return _ApplyingHook(self._marks.set_global_step(self._step), runner)


class _ApplyingHook(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc]  # TensorFlow has no types
    def __init__(self, first: tf.Operation, runner: tf.compat.v1.train.QueueRunner) -> None:
        self._first, self._runner = first, runner

    # The base class gives this name.

    def after_create_session(self, session: tf.compat.v1.Session, coord: tf.train.Coordinator) -> None:
        """Starts the thread that makes the updates, at the step that a checkpoint may have restored."""
        session.run(self._first)
        self._runner.create_threads(session, coord=coord, daemon=True, start=True)


def _buffer(packing: Packing, sender: int) -> Packed:
    """A sender's buffer for the gradients of one server's variables, on that server."""
    with tf.compat.v1.device(packing.device):
        return Packed(
            *(
                # Not initialised: it is read only after it was written.
                scratch_variable(
                    first,
                    name=f"gradients_of_{sender}/{field}{packing.device.replace(':', '_')}",
                    shape=[None],
                    is_set_here=False,
                )
                for field, first in packing.nothing()._asdict().items()
            )
        )
