"""Synchronous updates of concurrent, late, dead or new processes; servers in this one."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
import tensorflow as tf

from model_training.distributed.cluster import Cluster, Task
from model_training.distributed.parameter_servers.synchronous_update import SynchronousUpdate
from streamer.types import F32
from tests.model_training.distributed.parameter_servers.in_process import Servers, graph_of, started

pytestmark = pytest.mark.tensorflow

ROWS = 400
SECONDS = 60.0
"""Longer than every operation that must end."""


class _Member:
    """A computing process; it sends fed gradients of a table per server and a dense variable.

    The dense one's own value is added to what is fed of it.
    """

    def __init__(self, cluster: Cluster, task: Task, servers: Servers, aggregated: int) -> None:
        with graph_of(cluster, task):
            step = tf.compat.v1.train.get_or_create_global_step()
            variables = [
                _variable("dense", [2], "/job:ps/task:0"),
                _variable("first", [ROWS, 1], "/job:ps/task:0"),
                _variable("second", [ROWS, 1], "/job:ps/task:1"),
            ]
            self.dense = tf.compat.v1.placeholder(tf.float32, [2])
            self.rows = tf.compat.v1.placeholder(tf.int32, [None])
            of_rows = tf.IndexedSlices(tf.ones([tf.size(self.rows), 1]), self.rows)
            gradients = list(zip([self.dense + variables[0], of_rows, of_rows], variables, strict=True))
            gathering = SynchronousUpdate(cluster, task, gradients, step, aggregated=aggregated)
            self._part = (gathering.was_missed, gathering.ended)
            self._values = [variable.read_value() for variable in variables]
            self._step = step.read_value()
            self.put = [op for op in tf.compat.v1.get_default_graph().get_operations() if _puts(op)]
            with tf.compat.v1.device(step.device):
                same = tf.compat.v1.ConditionalAccumulator(tf.float32, [len(cluster.computing)], shared_name="marks")
                self.marks = same.num_accumulated()
            self.session = tf.compat.v1.Session(servers[task].target)
            if task.role == "chief":
                taken, _ = gathering.taken()
                # The variables become the sums of the gradients.
                optimizer = tf.compat.v1.train.GradientDescentOptimizer(-1.0)
                self.hook = gathering.applying(optimizer.apply_gradients(taken, step))
                self.first_step = tf.compat.v1.placeholder(tf.int64, [])
                self.begin = step.assign(self.first_step).op
                self.session.run(tf.compat.v1.global_variables_initializer())
            self._local = tf.compat.v1.local_variables_initializer()

    def join(self) -> None:
        self.session.run(self._local)

    def contribute(self, *rows: int, dense: tuple[float, float] = (0.0, 0.0)) -> bool:
        """Whether the gradients came too late."""
        return bool(self.session.run(self._part, {self.dense: dense, self.rows: rows})[0])

    def values(self) -> list[F32]:
        """The dense variable and, as vectors, both tables."""
        return [np.ravel(value) for value in self.session.run(self._values)]

    def step(self) -> int:
        return int(self.session.run(self._step))


@dataclass(slots=True)
class _Run:
    cluster: Cluster
    servers: Servers
    aggregated: int
    members: list[_Member] = field(default_factory=list)
    coordinator: tf.train.Coordinator = field(default_factory=tf.train.Coordinator)
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))

    def member(self, index: int) -> _Member:
        """A new or restarted computing process; the chief has the index 0."""
        return _Member(self.cluster, self.cluster.computing[index], self.servers, self.aggregated)

    def begin(self, member: int, *rows: int, dense: tuple[float, float] = (0.0, 0.0)) -> Future[bool]:
        return self.threads.submit(self.members[member].contribute, *rows, dense=dense)


@contextmanager
def _run(*, computing: int, aggregated: int, first_step: int = 0) -> Iterator[_Run]:
    cluster, servers = started(servers=2, computing=computing)
    run = _Run(cluster, servers, aggregated)
    run.members = [run.member(i) for i in range(computing)]
    chief = run.members[0]
    chief.session.run(chief.begin, {chief.first_step: first_step})
    for member in run.members:
        member.join()
    chief.hook.after_create_session(chief.session, run.coordinator)
    try:
        yield run
    finally:
        run.coordinator.request_stop()
        for member in run.members:
            member.session.close()
        run.threads.shutdown()


def _variable(name: str, shape: list[int], device: str) -> tf.Variable:
    with tf.compat.v1.device(device):
        return tf.compat.v1.Variable(tf.zeros(shape), name=name, use_resource=True)


def _puts(operation: tf.Operation) -> bool:
    """Whether the operation writes gradients to a server: such buffers are never initialised."""
    place = "gradients_of_"
    is_assignment = operation.type == "AssignVariableOp" and operation.inputs[0].op.name.startswith(place)
    return is_assignment and not operation.name.startswith(place)


def test_an_update_has_the_mean_of_dense_gradients_and_the_rows_of_all() -> None:
    with _run(computing=3, aggregated=3) as run:
        parts = [
            run.begin(0, 1, 2, dense=(3.0, 0.0)),
            run.begin(1, 2, 2, dense=(0.0, 6.0)),
            # No rows of the tables.
            run.begin(2, dense=(0.0, 3.0)),
        ]
        assert [part.result(SECONDS) for part in parts] == [False, False, False]
        dense, first, second = run.members[2].values()
        assert run.members[1].step() == 1
    assert dense.tolist() == [1.0, 3.0]
    assert first[:4].tolist() == second[:4].tolist() == [0.0, 1.0, 3.0, 0.0]


def test_late_gradients_are_missed_and_do_not_wait() -> None:
    with _run(computing=3, aggregated=2) as run:
        parts = [run.begin(0, 1, dense=(2.0, 2.0)), run.begin(1, 1, dense=(4.0, 4.0))]
        assert [part.result(SECONDS) for part in parts] == [False, False]
        assert run.members[2].contribute(5, dense=(8.0, 8.0))
        dense, first, second = run.members[0].values()
        assert (dense.tolist(), first[1], first[5], second[5]) == ([3.0, 3.0], 2.0, 0.0, 0.0)
        # It enters the next step if it is in time.
        parts = [run.begin(2, 5), run.begin(0)]
        assert [part.result(SECONDS) for part in parts] == [False, False]
        assert run.members[0].values()[1][5] == 1.0


def test_a_contribution_is_applied_whole_or_not_at_all() -> None:
    """Each contribution has its own row in tables on two servers."""
    steps = 60
    with _run(computing=3, aggregated=2) as run:

        def until_all_are_made(index: int) -> dict[int, bool]:
            reported: dict[int, bool] = {}
            while run.members[index].step() < steps:
                row = 3 * len(reported) + index
                reported[row] = run.members[index].contribute(row)
            return reported

        futures = [run.threads.submit(until_all_are_made, index) for index in range(3)]
        reported = {row: was_missed for part in futures for row, was_missed in part.result(SECONDS).items()}
        _, first, second = run.members[0].values()
    taken = np.zeros(ROWS)
    taken[[row for row, was_missed in reported.items() if not was_missed]] = 1.0
    np.testing.assert_array_equal(first, taken)
    np.testing.assert_array_equal(second, taken)
    assert 2 * steps <= taken.sum() <= 3 * steps


def test_a_process_that_died_between_two_servers_is_in_no_update() -> None:
    with _run(computing=3, aggregated=2) as run:
        # All gradients are written, but the mark is not sent.
        dying = run.members[2]
        dying.session.run(dying.put, {dying.dense: (8.0, 8.0), dying.rows: [7]})
        parts = [run.begin(0, 1), run.begin(1, 1)]
        assert [part.result(SECONDS) for part in parts] == [False, False]
        dense, first, _ = run.members[0].values()
        assert (dense.tolist(), first[1], first[7]) == ([0.0, 0.0], 2.0, 0.0)


def test_a_restarted_process_takes_part_beside_its_predecessor() -> None:
    with _run(computing=2, aggregated=2) as run:
        before = run.begin(1, 3)
        # It has sent its mark; the mark of its successor is the second one and completes an update.
        chief = run.members[0]
        ends = time.monotonic() + SECONDS
        while not chief.session.run(chief.marks):
            assert time.monotonic() < ends
        run.members.append(run.member(1))
        run.members[2].join()
        assert not run.begin(2, 4).result(SECONDS)
        assert not before.result(SECONDS)
        assert run.members[0].values()[1][3:5].tolist() == [0.0, 1.0]
        # The update did not wait for the chief. The chief notices it, and the run continues.
        assert run.members[0].contribute(5)
        parts = [run.begin(0, 5), run.begin(2, 6)]
        assert [part.result(SECONDS) for part in parts] == [False, False]
        assert run.members[0].values()[1][3:7].tolist() == [0.0, 1.0, 1.0, 1.0]


def test_a_run_continues_from_the_step_of_its_checkpoint() -> None:
    with _run(computing=3, aggregated=2, first_step=700) as run:
        parts = [run.begin(0, 1), run.begin(1, 2)]
        assert [part.result(SECONDS) for part in parts] == [False, False]
        assert run.members[1].step() == 701
        # Gradients for step 700 are too late for the next step.
        assert run.members[2].contribute(3)
        parts = [run.begin(0, 4), run.begin(1, 5)]
        assert [part.result(SECONDS) for part in parts] == [False, False]
        assert run.members[1].values()[1][1:6].tolist() == [1.0, 1.0, 0.0, 1.0, 1.0]


def test_gradients_belong_to_the_variables_after_the_last_update() -> None:
    """Each contributes the dense variable's value + 1, so v becomes 2 v + 1 after each update."""
    steps = 20
    with _run(computing=3, aggregated=2) as run:

        def until_all_are_made(index: int) -> None:
            while run.members[index].step() < steps:
                run.members[index].contribute(dense=(1.0, 1.0))

        for part in [run.threads.submit(until_all_are_made, index) for index in range(3)]:
            part.result(SECONDS)
        assert run.members[0].step() == steps
        assert run.members[0].values()[0].tolist() == [2.0**steps - 1] * 2


def test_waiting_processes_end_when_the_chief_ends() -> None:
    with _run(computing=2, aggregated=2) as run:
        waiting = run.begin(1, 1)
        run.coordinator.request_stop()
        with pytest.raises(tf.errors.OutOfRangeError):
            waiting.result(SECONDS)
        assert run.members[1].step() == 0
