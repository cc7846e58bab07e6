"""Assignment of batches by a shared counter on a parameter server in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from model_training.config.training import TrainingConfig
from model_training.data.click_log import encode_log, read_log
from model_training.data.examples import Examples
from model_training.data.manifest import Manifest
from model_training.data.records import write_records
from model_training.distributed.parameter_servers.assignment import Assignment
from model_training.distributed.run import Run
from streamer.features import Encoder, FeatureSpec
from tests.model_training.distributed.parameter_servers.in_process import graph_of, started

pytestmark = pytest.mark.tensorflow

BATCH = 10
Records = tuple[Path, Manifest, list[int]]
"""A folder, its manifest, and the numbers of its examples."""


@dataclass(slots=True)
class _Process:
    """A computing process: its graph and its session."""

    session: tf.compat.v1.Session
    assignment: Assignment
    noted: tf.Operation
    was_missed: tf.Tensor
    saver: tf.compat.v1.train.Saver

    def rows(self) -> list[int]:
        """Takes a batch, and returns the numbers of its examples."""
        return [int(row) for row in self.session.run(self.assignment.batch)[0][:, 0]]

    def note(self, *, was_missed: bool) -> None:
        """Ends a step, with or without the gradients of this process."""
        self.session.run(self.noted, {self.was_missed: was_missed})


@pytest.fixture
def records(tmp_path: Path, log: Path, encoder: Encoder, spec: FeatureSpec) -> Records:
    """A folder of examples whose first id is their number."""
    (encoded,) = encode_log(read_log(log, last=30), encoder)
    ids = np.arange(encoded.ids.size, dtype=np.int32).reshape(encoded.ids.shape)
    marked: Examples = replace(encoded, ids=ids)
    folder = tmp_path / "records"
    return folder, write_records([marked], folder, spec, shards=3), ids[:, 0].tolist()


@contextmanager
def _processes(records: Records, spec: FeatureSpec) -> Iterator[list[_Process]]:
    """A chief and a worker in their own cluster."""
    folder, manifest, _ = records
    cluster, servers = started(servers=1, computing=2)
    config = TrainingConfig.model_validate(
        {"spec": "unused", "model": {"kind": "logistic_regression"}, "batch_size": BATCH, "shuffle_buffer": 40}
    )
    processes = []
    for task in cluster.computing:
        run = Run(cluster, task, config, spec, folder, manifest, folder / "checkpoints")
        with graph_of(cluster, task):
            assignment = Assignment(run)
            was_missed = tf.compat.v1.placeholder(tf.bool, [])
            noted = assignment.keeping(was_missed)
            session, saver = tf.compat.v1.Session(servers[task].target), tf.compat.v1.train.Saver()
            if task.role == "chief":
                session.run(tf.compat.v1.global_variables_initializer())
            session.run([tf.compat.v1.local_variables_initializer(), tf.compat.v1.tables_initializer()])
            processes.append(_Process(session, assignment, noted, was_missed, saver))
    yield processes
    for process in processes:
        process.session.close()


def test_one_process_takes_each_batch(records: Records, spec: FeatureSpec) -> None:
    rows = records[2]
    batches = len(rows) // BATCH
    assert batches * BATCH == len(rows)
    with _processes(records, spec) as (chief, worker):
        one_pass = [(worker if i % 3 else chief).rows() for i in range(batches)]
        assert sorted(row for batch in one_pass for row in batch) == rows
        # A slow or a new process continues at the position of the other one.
        next_pass = [(worker if i else chief).rows() for i in range(batches)]
        assert sorted(row for batch in next_pass for row in batch) == rows
        assert one_pass != next_pass


def test_a_batch_is_kept_until_it_is_learnt(records: Records, spec: FeatureSpec) -> None:
    with _processes(records, spec) as (chief, worker):
        late, early = worker.rows(), chief.rows()
        worker.note(was_missed=True)
        chief.note(was_missed=False)
        following = chief.rows()
        assert worker.rows() == late
        worker.note(was_missed=False)
        others = worker.rows()
        assert len({tuple(batch) for batch in (late, early, following, others)}) == 4
        assert not set(late) & set(early)


def test_a_continued_run_takes_the_batches_that_were_not_taken(
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
