"""Batches handed out to processes that share a counter on a parameter server; all servers in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from model_training.click_log import Examples, encode_log, read_log
from model_training.config import TrainingConfig
from model_training.distributed.assignment import Assignment
from model_training.distributed.cluster import Cluster
from model_training.distributed.run import Run
from model_training.manifest import Manifest
from model_training.records import write_records
from sandbox.broker.ports import LOOPBACK, free_ports
from streamer.features import Encoder, FeatureSpec

pytestmark = pytest.mark.tensorflow

BATCH = 10
Records = tuple[Path, Manifest, list[int]]
"""A folder, what it holds, and the numbers of its examples."""


@dataclass(slots=True)
class _Process:
    """One that computes: its graph and its session."""

    session: tf.compat.v1.Session
    assignment: Assignment
    noted: tf.Operation
    learnt: tf.Tensor
    fate: tf.Tensor
    saver: tf.compat.v1.train.Saver

    def rows(self) -> list[int]:
        """Takes a batch; the numbers of its examples."""
        return [int(row) for row in self.session.run(self.assignment.batch)[0][:, 0]]

    def note(self, *in_time: float) -> None:
        """A step ends, to which so much was contributed by the chief and by the worker."""
        self.session.run(self.learnt, {self.fate: in_time})
        self.session.run(self.noted)


@pytest.fixture
def records(tmp_path: Path, log: Path, encoder: Encoder, spec: FeatureSpec) -> Records:
    """A folder of examples that are numbered by their first id."""
    (encoded,) = encode_log(read_log(log, last=30), encoder)
    ids = np.arange(encoded.ids.size, dtype=np.int32).reshape(encoded.ids.shape)
    marked: Examples = replace(encoded, ids=ids)
    folder = tmp_path / "records"
    return folder, write_records([marked], folder, spec, shards=3), ids[:, 0].tolist()


@contextmanager
def _processes(records: Records, spec: FeatureSpec) -> Iterator[list[_Process]]:
    """A chief and a worker, in a cluster of their own."""
    folder, manifest, _ = records
    ps, *computing = (f"{LOOPBACK}:{port}" for port in free_ports(3))
    cluster = Cluster((ps,), computing[0], (computing[1],))
    config = TrainingConfig.model_validate(
        {"spec": "unused", "model": {"kind": "logistic_regression"}, "batch_size": BATCH, "shuffle_buffer": 40}
    )
    servers = [
        tf.distribute.Server(tf.train.ClusterSpec(cluster.jobs), job_name=task.role, task_index=task.index)
        for task in cluster.tasks
    ]
    processes = []
    for task, server in zip(cluster.computing, servers[1:], strict=True):
        run = Run(cluster, task, config, spec, folder, manifest, folder / "checkpoints")
        setter = tf.compat.v1.train.replica_device_setter(
            cluster=tf.train.ClusterSpec(cluster.jobs), worker_device=task.device
        )
        with tf.Graph().as_default(), tf.compat.v1.device(setter):
            assignment = Assignment(run)
            fate = tf.compat.v1.placeholder(tf.float32, [2])
            learnt, noted = assignment.in_time.assign(fate), assignment.noting(tf.no_op())
            session, saver = tf.compat.v1.Session(server.target), tf.compat.v1.train.Saver()
            if task.role == "chief":
                session.run(tf.compat.v1.global_variables_initializer())
            session.run([tf.compat.v1.local_variables_initializer(), tf.compat.v1.tables_initializer()])
            processes.append(_Process(session, assignment, noted, learnt, fate, saver))
    yield processes
    for process in processes:
        process.session.close()


def test_each_batch_is_taken_once_by_whoever_asks(records: Records, spec: FeatureSpec) -> None:
    rows = records[2]
    batches = len(rows) // BATCH
    assert batches * BATCH == len(rows)
    with _processes(records, spec) as (chief, worker):
        one_pass = [(worker if i % 3 else chief).rows() for i in range(batches)]
        assert sorted(row for batch in one_pass for row in batch) == rows
        # One that was slow, or has just been started, goes on where the other is.
        next_pass = [(worker if i else chief).rows() for i in range(batches)]
        assert sorted(row for batch in next_pass for row in batch) == rows
        assert one_pass != next_pass


def test_a_batch_is_kept_until_it_was_in_time(records: Records, spec: FeatureSpec) -> None:
    with _processes(records, spec) as (chief, worker):
        late, early = worker.rows(), chief.rows()
        worker.note(1.0, 0.0)
        chief.note(1.0, 0.0)
        following = chief.rows()
        assert worker.rows() == late
        worker.note(0.5, 0.5)
        others = worker.rows()
        assert len({tuple(batch) for batch in (late, early, following, others)}) == 4
        assert not set(late) & set(early)


def test_who_goes_on_from_a_checkpoint_takes_what_was_not_taken(
    records: Records, spec: FeatureSpec, tmp_path: Path
) -> None:
    rows = records[2]
    with _processes(records, spec) as (chief, worker):
        taken = [chief.rows(), worker.rows()]
        with chief.session.graph.as_default():
            saved = chief.saver.save(chief.session, str(tmp_path / "model.ckpt"), write_meta_graph=False)
        following = worker.rows()
    with _processes(records, spec) as (chief, worker):
        with chief.session.graph.as_default():
            chief.saver.restore(chief.session, saved)
        assert worker.rows() == following
        rest = [chief.rows() for _ in range(len(rows) // BATCH - 3)]
    assert sorted(row for batch in (*taken, following, *rest) for row in batch) == rows
