"""`TF_CONFIG`, and the number of gradients per step; without TensorFlow."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_training.config.training import DistributedConfig, Mode, TrainingConfig
from model_training.data.manifest import Manifest
from model_training.distributed.cluster import Cluster, Schedule, Task, check_mode, read_tf_config
from model_training.distributed.run import Run
from model_training.errors import ConfigError
from model_training.identity import RunIdentity
from streamer.features import FeatureSpec

_CLUSTER = Cluster(("h1:1", "h2:1"), "h3:1", ("h4:1",))


@pytest.mark.parametrize("task", _CLUSTER.tasks, ids=str)
def test_a_written_tf_config_is_read_back(task: Task) -> None:
    assert read_tf_config({"TF_CONFIG": _CLUSTER.tf_config(task)}) == (_CLUSTER, task)


@pytest.mark.parametrize("environment", [{}, {"TF_CONFIG": ""}])
def test_without_tf_config_a_process_is_alone(environment: dict[str, str]) -> None:
    assert read_tf_config(environment) is None


def test_the_chief_computes_too() -> None:
    assert [str(task) for task in _CLUSTER.tasks] == ["ps 0", "ps 1", "chief", "worker 0"]
    assert [str(task) for task in _CLUSTER.computing] == ["chief", "worker 0"]
    assert Cluster(("h:1",), "h:2").jobs == {"ps": ["h:1"], "chief": ["h:2"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ({"cluster": {"chief": ["a:1"], "ps": ["b:1"]}}, "cannot be read"),
        ({"cluster": {"ps": ["a:1"]}, "task": {"type": "ps"}}, "one chief"),
        ({"cluster": {"chief": ["a:1"], "ps": ["b:1"]}, "task": {"type": "evaluator"}}, "unknown role 'evaluator'"),
        ({"cluster": {"chief": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 1}}, "there is no ps 1"),
    ],
)
def test_a_wrong_tf_config_is_rejected(content: object, message: str) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    with pytest.raises(ConfigError, match=f"TF_CONFIG: .*{message}"):
        read_tf_config({"TF_CONFIG": text})


def test_without_parameter_servers_the_first_worker_may_be_the_chief() -> None:
    jobs = {"worker": ["a:1", "b:1", "c:1"]}
    expected = Cluster((), "a:1", ("b:1", "c:1"))
    for index, task in enumerate([Task("chief", 0), Task("worker", 0), Task("worker", 1)]):
        text = json.dumps({"cluster": jobs, "task": {"type": "worker", "index": index}})
        assert read_tf_config({"TF_CONFIG": text}) == (expected, task)
    assert expected.computing == expected.tasks
    assert read_tf_config({"TF_CONFIG": expected.tf_config(Task("worker", 1))}) == (expected, Task("worker", 1))


@pytest.mark.parametrize(("mode", "servers"), [("sync", 1), ("async", 2), ("mirrored", 0)])
def test_a_mode_has_its_processes(mode: Mode, servers: int) -> None:
    check_mode(mode, servers=servers)
    with pytest.raises(ConfigError, match=r"uses no parameter servers, but there are 1|needs a parameter server"):
        check_mode(mode, servers=0 if servers else 1)


def test_a_step_waits_for_all_but_the_backups() -> None:
    sync, backup = DistributedConfig(), DistributedConfig(backup_workers=1)
    assert Schedule.of(sync, 3, 3000, 100) == Schedule(aggregated=3, total=3, steps=10)
    assert Schedule.of(backup, 3, 3000, 100) == Schedule(aggregated=2, total=3, steps=15)
    assert Schedule.of(DistributedConfig(mode="async"), 3, 3000, 100) == Schedule(aggregated=1, total=3, steps=30)
    mirrored = DistributedConfig(mode="mirrored")
    assert Schedule.of(mirrored, 3, 3000, 100) == Schedule(aggregated=3, total=3, steps=10)
    with pytest.raises(ConfigError, match=r"distributed\.backup_workers 1: must be less than the 1 computing"):
        Schedule.of(backup, 1, 3000, 100)


@given(st.integers(1, 9), st.integers(0, 8), st.integers(1, 10**6), st.integers(1, 5000))
def test_a_run_applies_all_examples_and_less_than_a_step_more(
    computing: int, backups: int, examples: int, batch: int
) -> None:
    if backups >= computing:
        return
    schedule = Schedule.of(DistributedConfig(backup_workers=backups), computing, examples, batch)
    applied = schedule.steps * schedule.aggregated * batch
    assert examples <= applied < examples + schedule.aggregated * batch


def test_a_folder_of_other_processes_is_rejected(tmp_path: Path, spec: FeatureSpec) -> None:
    """A step count means another number of examples, so a continued run would lose a part of the data."""
    manifest = Manifest("small", spec.hash, 100, 10, 1, 1, 1.0, (), "", 64)
    config = TrainingConfig(spec=Path("unused"))

    def identity(ps: int, workers: int, **distributed: object) -> RunIdentity:
        cluster = Cluster(("h:1",) * ps, "h:1", ("h:1",) * (workers - 1))
        other = config.with_distributed(distributed)
        return Run(cluster, cluster.tasks[0], other, spec, tmp_path, manifest, tmp_path).identity

    found = identity(2, 3).content
    identity(2, 3, checkpoint_seconds=1, wait_seconds=1).check(found, tmp_path)
    for other, message in (
        (identity(2, 4), "processes.computing 3 instead of 4"),
        (identity(1, 3), "processes.parameter_servers 2 instead of 1"),
        (identity(2, 3, backup_workers=1), "processes.backup_workers 0 instead of 1"),
        (identity(2, 3, mode="async"), 'processes.mode "sync" instead of "async"'),
        (identity(0, 3, mode="mirrored"), "processes.table_shards 16 instead of none"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            other.check(found, tmp_path)
        assert "\n" not in str(caught.value)
