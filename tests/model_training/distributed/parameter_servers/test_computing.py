"""The chief, with a parameter server in this process: failures, and how runs continue."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

from model_training.config.training import TrainingConfig
from model_training.data.click_log import encode_log, read_log
from model_training.data.records import write_records
from model_training.distributed.cluster import Cluster, Task
from model_training.distributed.parameter_servers import computing
from model_training.distributed.run import Run
from model_training.errors import PeerError, TrainingError
from model_training.training.loop import Progress
from sandbox.host.ports import LOOPBACK, free_ports
from streamer.features import Encoder, FeatureSpec
from tests.model_training.launched import write_config

pytestmark = pytest.mark.tensorflow

CHIEF = Task("chief", 0)
SyncOrAsync = pytest.mark.parametrize("mode", ["sync", pytest.param("async", marks=pytest.mark.slow)])
Begin = Callable[..., Run]


@pytest.fixture
def begin(tmp_path: Path, log: Path, encoder: Encoder, spec: FeatureSpec) -> Begin:
    """Starts a new parameter server; a run for a chief that computes alone, or `task`."""
    manifest = write_records(encode_log(read_log(log, last=20), encoder), tmp_path / "records", spec)

    def begin(mode: str, *, epochs: int = 1, task: Task = CHIEF, wait_seconds: float = 600) -> Run:
        server, chief, worker = (f"{LOOPBACK}:{port}" for port in free_ports(3))
        cluster = Cluster((server,), chief, () if task == CHIEF else (worker,))
        tf.distribute.Server(tf.train.ClusterSpec(cluster.jobs), job_name="ps", task_index=0)
        distributed = {"mode": mode, "checkpoint_seconds": 1, "wait_seconds": wait_seconds}
        model = {"kind": "wide_deep", "hidden_units": [64, 64]}
        config = TrainingConfig.model_validate(
            {"spec": "unused", "model": model, "batch_size": 6, "epochs": epochs, "distributed": distributed}
        )
        folder = tmp_path / "checkpoints"
        return Run(cluster, task, config, spec, tmp_path / "records", manifest, folder)

    return begin


class _AtStep(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc]  # TensorFlow has no types
    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self._left, self._act = step, act

    def before_run(self, run_context: tf.compat.v1.train.SessionRunContext) -> None:
        self._left -= 1
        if not self._left:
            self._act()


def _at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None]) -> None:
    make = tf.compat.v1.train.MonitoredTrainingSession

    def with_hook(*arguments: object, hooks: list[object], **more: object) -> object:
        return make(*arguments, hooks=[*hooks, _AtStep(step, act)], **more)

    monkeypatch.setattr(tf.compat.v1.train, "MonitoredTrainingSession", with_hook)


@pytest.mark.slow
@SyncOrAsync
def test_a_lost_connection_does_not_end_the_run(mode: str, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose() -> None:
        raise tf.errors.UnavailableError(None, None, "connection reset by peer")

    _at_step(monkeypatch, 3, lose)
    with pytest.raises(PeerError, match="chief: the connection to a parameter server was lost"):
        computing.compute(begin(mode))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_checkpoint_that_cannot_be_written_is_reported(
    mode: str, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    _at_step(monkeypatch, 3, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, before[1])))
    try:
        with pytest.raises(TrainingError, match=r"chief: .*File too large") as caught:
            computing.compute(begin(mode, epochs=10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not isinstance(caught.value, PeerError)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_run_that_is_over_makes_no_more_steps(mode: str, begin: Begin) -> None:
    reported: list[Progress] = []
    run = begin(mode)
    computing.compute(run, reported.append)
    (last,) = {progress.steps for progress in reported[-1:]}
    assert last == run.schedule.steps == 10
    saved = tf.train.latest_checkpoint(str(run.checkpoints))
    assert saved.endswith("-10")
    reported.clear()
    computing.compute(begin(mode), reported.append)
    assert reported == []
    assert tf.train.latest_checkpoint(str(run.checkpoints)) == saved


def test_the_wait_for_a_missing_chief_has_a_limit(begin: Begin) -> None:
    with pytest.raises(TrainingError, match="worker 0: the variables were not ready in time") as caught:
        computing.compute(begin("sync", task=Task("worker", 0), wait_seconds=2))
    assert caught.value.status == 2


@pytest.mark.slow
@pytest.mark.parametrize("role", ["chief", "worker"])
def test_the_wait_for_missing_servers_has_a_limit(role: str, tmp_path: Path, begin: Begin) -> None:
    records = begin("sync").records
    config = write_config(
        tmp_path, model={"kind": "logistic_regression"}, distributed={"mode": "sync", "wait_seconds": 1}
    )
    server, chief, worker = (f"{LOOPBACK}:{port}" for port in free_ports(3))
    cluster = Cluster((server,), chief, (worker,))
    process = subprocess.run(
        [
            *(sys.executable, "-m", "model_training", "train", "--config", str(config)),
            *("--records", str(records), "--checkpoints", str(tmp_path / "run")),
        ],
        env={**os.environ, "TF_CONFIG": cluster.tf_config(Task(role, 0))},  # type: ignore[arg-type]
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert process.returncode == 1, process.stderr
    name = "chief" if role == "chief" else "worker 0"
    assert f"error: {name}: the parameter servers have not answered in 1 s" in process.stderr
