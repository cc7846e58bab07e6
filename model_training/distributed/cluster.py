"""The processes of a training run, from TensorFlow's environment variable `TF_CONFIG`.

    {"cluster": {"ps": ["h1:2222"], "chief": ["h2:2222"], "worker": ["h3:2222"]},
     "task": {"type": "worker", "index": 0}}

The chief computes gradients like a worker. It also initialises the variables, applies the gradients of mode `sync`, and
writes checkpoints. In mode `mirrored` there are no parameter servers and each process holds all variables; if such a
cluster has no chief, its first worker is the chief.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from model_training.config.training import DistributedConfig, Mode
from model_training.errors import ConfigError

Role = Literal["ps", "chief", "worker"]
ROLES: tuple[Role, ...] = ("ps", "chief", "worker")


@dataclass(frozen=True, slots=True, order=True)
class Task:
    """One process of a run."""

    role: Role
    index: int

    def __str__(self) -> str:
        return self.role if self.role == "chief" else f"{self.role} {self.index}"

    @property
    def device(self) -> str:
        """The prefix of the process's device names in graphs."""
        return f"/job:{self.role}/task:{self.index}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Addresses, `host:port`, of all processes of a run; `ps` is empty in mode `mirrored`."""

    ps: tuple[str, ...]
    chief: str
    workers: tuple[str, ...] = ()

    @property
    def jobs(self) -> dict[str, list[str]]:
        """The cluster in TensorFlow's form; jobs without tasks are omitted."""
        jobs = {"ps": list(self.ps), "chief": [self.chief], "worker": list(self.workers)}
        return {job: addresses for job, addresses in jobs.items() if addresses}

    @property
    def tasks(self) -> list[Task]:
        """All tasks, parameter servers first."""
        return [Task(role, i) for role in ROLES for i in range(len(self.jobs.get(role, ())))]

    @property
    def computing(self) -> list[Task]:
        """The tasks that compute gradients, the chief first."""
        return [task for task in self.tasks if task.role != "ps"]

    def tf_config(self, task: Task) -> str:
        """The value of `TF_CONFIG` for `task`."""
        return json.dumps({"cluster": self.jobs, "task": {"type": task.role, "index": task.index}})


def check_mode(mode: Mode, *, servers: int) -> None:
    """Rejects a mode that does not fit the number of parameter servers.

    Raises:
        ConfigError: mode `mirrored` with parameter servers, or another mode without.
    """
    if mode == "mirrored" and servers:
        raise ConfigError(f"mode 'mirrored' uses no parameter servers, but there are {servers}")
    if mode != "mirrored" and not servers:
        raise ConfigError(f"mode {mode!r} needs a parameter server (ps); without one, use mode 'mirrored'")


@dataclass(frozen=True, slots=True)
class Schedule:
    """The number of gradients per step, and of steps per run.

    Attributes:
        aggregated: number of gradients, each of one batch, that a step waits for and applies together.
        total: number of computing processes; those beyond `aggregated` are backup workers.
        steps: number of steps of the run, so that it applies as many examples as a single process would.
    """

    aggregated: int
    total: int
    steps: int

    @classmethod
    def of(cls, config: DistributedConfig, computing: int, examples: int, batch_size: int) -> "Schedule":
        """The schedule for `computing` processes and `examples` examples over all epochs.

        Raises:
            ConfigError: not fewer backup workers than computing processes.
        """
        if config.backup_workers >= computing:
            raise ConfigError(
                f"distributed.backup_workers {config.backup_workers}: must be less than the {computing} computing"
                " processes, which include the chief"
            )
        aggregated = 1 if config.mode == "async" else computing - config.backup_workers
        return cls(aggregated, computing, -(-examples // (batch_size * aggregated)))


def read_tf_config(environment: Mapping[str, str]) -> tuple[Cluster, Task] | None:
    """The cluster and this process's task in it; None if `TF_CONFIG` is not set or empty.

    Raises:
        ConfigError: the variable cannot be read, its task is not in its cluster, or it has an unknown role.
    """
    text = environment.get("TF_CONFIG")
    if not text:
        return None
    try:
        content = json.loads(text)
        jobs = {str(job): tuple(map(str, addresses)) for job, addresses in content["cluster"].items()}
        kind, index = content["task"]["type"], int(content["task"].get("index", 0))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"TF_CONFIG: cannot be read: {error!r}") from error
    unknown = [job for job in (*jobs, kind) if job not in ROLES]
    if unknown:
        raise ConfigError(f"TF_CONFIG: unknown role {unknown[0]!r}; known are {', '.join(ROLES)}")
    ps, chief, workers = (jobs.get(role, ()) for role in ROLES)
    task = Task(kind, index)
    if not ps and not chief and workers:
        chief, workers = workers[:1], workers[1:]
        if kind == "worker":
            task = Task("worker", index - 1) if index else Task("chief", 0)
    if len(chief) != 1:
        raise ConfigError("TF_CONFIG: a cluster needs one chief; only without ps the first worker can be the chief")
    cluster = Cluster(ps, chief[0], workers)
    if task not in cluster.tasks:
        raise ConfigError(f"TF_CONFIG: there is no {kind} {index} in the cluster")
    return cluster, task
