"""Synchronous steps: the gradients of several processes become one update, those of each as a whole or not at all.

`SyncReplicasOptimizer` has an accumulator for each variable, and each takes the first gradients that reach it. Where
several processes send at a time, a part of the variables learns from one of them and the rest from another, so that no
batch is learnt from as it was computed. Here a process puts its gradients down on the parameter servers, in places of
its own, and then gives a mark to the only accumulator that there is, which takes the first ones of a step. The chief
applies the gradients of those whose marks it took.
"""

from collections.abc import Sequence

import tensorflow as tf

from model_training.distributed.cluster import Cluster, Task
from model_training.distributed.parameter_servers.optimizer import Gradient
from model_training.distributed.parameter_servers.packing import Packed, Packing, by_server
from model_training.distributed.parameter_servers.variables import passing_variable

_WORDS = 2
"""That there is news, for a process and for a former self of it whose machine is gone and whose waiting is not."""
_CLOSED = (tf.errors.OutOfRangeError, tf.errors.CancelledError)
"""What waiting for a queue ends with when the session, or the queue, is closed: no error."""


class Gathering:
    """The part of one process in the steps of all, in the graph under construction.

    Invariants: (1) `global_step` counts updates, and an update is made of at least `aggregated` gradients that were
    all computed from the variables as the update before it left them. (2) Of a process's gradients, either all are in
    one update, or none is in any; except where a process is started again within the step in which it died.

    Args:
        gradients: this process's own, means over its batch.
        step: `global_step`; the server that holds it decides which gradients make an update.
        aggregated: how many an update waits for.

    Attributes:
        was_missed: bool scalar; its evaluation sends the own gradients and waits until the step that they are for has
            been made. True if it was made without them.
        ended: that the process has done its part in that step.
    """

    def __init__(
        self, cluster: Cluster, task: Task, gradients: Sequence[Gradient], step: tf.Variable, *, aggregated: int
    ) -> None:
        own, self._computing = cluster.computing.index(task), len(cluster.computing)
        self._aggregated, self._step = aggregated, step
        is_chief = task.role == "chief"
        senders = range(self._computing) if is_chief else [own]
        self._places = {
            packing: {sender: _place(packing, sender) for sender in senders} for packing in by_server(gradients)
        }
        with tf.compat.v1.device(step.device):
            self._marks = tf.compat.v1.ConditionalAccumulator(tf.float32, [self._computing], shared_name="marks")
            self._news = {i: tf.queue.FIFOQueue(_WORDS, [tf.bool], [[]], shared_name=f"news_{i}") for i in senders}
        # In a checkpoint it would be in the way of a next run of more processes.
        nobody = tf.fill([self._computing], tf.constant(-1, tf.int64))
        self._taken_for = passing_variable(nobody, name="taken_for", is_set_here=is_chief)
        with tf.device(task.device):
            seen = passing_variable(step.read_value())
        self.was_missed, self.ended = self._contributed(own, seen)

    def _contributed(self, own: int, seen: tf.Variable) -> tuple[tf.Tensor, tf.Operation]:
        # The variables are read after this was written: they are those of this step, or the step is over.
        computed_for = seen.read_value()
        put_down = [
            place.assign(part)
            for packing, places in self._places.items()
            for place, part in zip(places[own], packing.packed(), strict=True)
        ]
        with tf.control_dependencies(put_down):
            mark = tf.one_hot(own, self._computing)
        server = self._step.device

        def look_again(_: tf.Tensor) -> tf.Tensor:
            with tf.compat.v1.device(server), tf.control_dependencies([self._news[own].dequeue()]):
                return self._step.read_value()

        # All of it on the server: no message goes back and forth while this waits.
        with tf.compat.v1.device(server):
            with tf.control_dependencies([self._marks.apply_grad(mark, computed_for)]):
                first, asked = self._step.read_value(), tf.identity(computed_for)
            (made,) = tf.while_loop(lambda made: made <= asked, look_again, [first])
            with tf.control_dependencies([made]):
                was_missed = tf.not_equal(self._taken_for.read_value()[own], asked)
        return was_missed, seen.assign(made).op

    def taken(self) -> tuple[list[Gradient], tf.Tensor]:
        """Waits for enough gradients of a step, and takes them. To be part of what `applying` is told.

        Returns:
            For dense variables the mean of all that were taken, for tables the rows of all, one behind the other; and
            how many processes' they are, float32 scalar.
        """
        with tf.compat.v1.device(self._step.device):
            is_taken = self._marks.take_grad(self._aggregated) > 0.0
            noted = self._taken_for.assign(tf.where(is_taken, self._step.read_value(), self._taken_for.read_value()))
            with tf.control_dependencies([noted]):
                is_taken = tf.identity(is_taken)
            contributions = tf.reduce_sum(tf.cast(is_taken, tf.float32))
        gradients: list[Gradient] = []
        for packing, places in self._places.items():
            with tf.compat.v1.device(packing.device):
                parts = [
                    tf.cond(
                        is_taken[sender],
                        lambda place=place: Packed(*(variable.read_value() for variable in place)),
                        packing.nothing,
                    )
                    for sender, place in places.items()
                ]
            gradients += packing.unpacked(parts, contributions)
        return gradients, contributions

    def applying(self, update: tf.Operation) -> tf.compat.v1.train.SessionRunHook:
        """The chief's hook that makes one `update` after the other, as they are gathered, and tells all of each."""
        with tf.compat.v1.device(self._step.device), tf.control_dependencies([update]):
            told = [queue.enqueue_many((tf.fill([_WORDS - queue.size()], True),)) for queue in self._news.values()]
        runner = tf.compat.v1.train.QueueRunner(
            self._news[0],  # the chief's
            [tf.group(told)],
            close_op=tf.group([queue.close() for queue in self._news.values()]),
            cancel_op=tf.group([queue.close(cancel_pending_enqueues=True) for queue in self._news.values()]),
            queue_closed_exception_types=_CLOSED,
        )
        return _ApplyingHook(self._marks.set_global_step(self._step), runner)


class _ApplyingHook(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc]  # TensorFlow has no types
    def __init__(self, first: tf.Operation, runner: tf.compat.v1.train.QueueRunner) -> None:
        self._first, self._runner = first, runner

    # The name is that of the base class.

    def after_create_session(self, session: tf.compat.v1.Session, coord: tf.train.Coordinator) -> None:
        """Starts the thread that makes the updates, from the step that a checkpoint may have set."""
        session.run(self._first)
        self._runner.create_threads(session, coord=coord, daemon=True, start=True)


def _place(packing: Packing, sender: int) -> Packed:
    """Where a sender puts its gradients of one server's variables down, on that server."""
    with tf.compat.v1.device(packing.device):
        return Packed(
            *(
                # Nobody gives it a first value: only what was put down is read.
                passing_variable(
                    first,
                    name=f"gradients_of_{sender}/{field}{packing.device.replace(':', '_')}",
                    shape=[None],
                    is_set_here=False,
                )
                for field, first in packing.nothing()._asdict().items()
            )
        )
