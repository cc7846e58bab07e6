"""Who takes part in a training run, by the environment variable `TF_CONFIG` as TensorFlow's own tools set it.

    {"cluster": {"ps": ["h1:2222"], "chief": ["h2:2222"], "worker": ["h3:2222"]},
     "task": {"type": "worker", "index": 0}}

The chief computes gradients like a worker; besides, it gives the variables their first values, applies the gradients
that `sync` has gathered, and writes checkpoints. Without parameter servers, in mode `mirrored`, each process holds all
variables; where such a cluster names no chief, the first worker is it.
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
        """The prefix of its devices' names in graphs."""
        return f"/job:{self.role}/task:{self.index}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Addresses, `host:port`, of all processes of a run; `ps` are none in mode `mirrored`."""

    ps: tuple[str, ...]
    chief: str
    workers: tuple[str, ...] = ()

    @property
    def jobs(self) -> dict[str, list[str]]:
        """As TensorFlow wants it; jobs without tasks are left out."""
        jobs = {"ps": list(self.ps), "chief": [self.chief], "worker": list(self.workers)}
        return {job: addresses for job, addresses in jobs.items() if addresses}

    @property
    def tasks(self) -> list[Task]:
        """All, parameter servers first."""
        return [Task(role, i) for role in ROLES for i in range(len(self.jobs.get(role, ())))]

    @property
    def computing(self) -> list[Task]:
        """Those that compute gradients: the chief first."""
        return [task for task in self.tasks if task.role != "ps"]

    def tf_config(self, task: Task) -> str:
        """`TF_CONFIG` for `task`."""
        return json.dumps({"cluster": self.jobs, "task": {"type": task.role, "index": task.index}})


def check_mode(mode: Mode, *, servers: int) -> None:
    """Refuses a mode that does not go with so many parameter servers.

    Raises:
        ConfigError: `mirrored` with some, or another mode with none.
    """
    if mode == "mirrored" and servers:
        raise ConfigError(f"mode 'mirrored' has no parameter servers, and there are {servers}")
    if mode != "mirrored" and not servers:
        raise ConfigError(f"mode {mode!r} needs a parameter server (ps); without any, the mode is 'mirrored'")


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many gradients make a step, and how many steps a run.

    Attributes:
        aggregated: gradients, each of one batch, that a step waits for and applies together.
        total: workers and chief; those beyond `aggregated` are backups.
        steps: in the whole run, so that as many examples are applied as a single process would.
    """

    aggregated: int
    total: int
    steps: int

    @classmethod
    def of(cls, config: DistributedConfig, computing: int, examples: int, batch_size: int) -> "Schedule":
        """The schedule for `computing` processes and `examples` examples, all epochs counted.

        Raises:
            ConfigError: there are as many backups as processes, or more.
        """
        if config.backup_workers >= computing:
            raise ConfigError(
                f"distributed.backup_workers {config.backup_workers}: must be less than the {computing} that compute,"
                " the chief among them"
            )
        aggregated = 1 if config.mode == "async" else computing - config.backup_workers
        return cls(aggregated, computing, -(-examples // (batch_size * aggregated)))


def read_tf_config(environment: Mapping[str, str]) -> tuple[Cluster, Task] | None:
    """The cluster and this process's task in it; None where `TF_CONFIG` is not set or empty.

    Raises:
        ConfigError: it cannot be read, or there is no such task, or a role that this program does not know.
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
        raise ConfigError("TF_CONFIG: a cluster has one chief; only without ps may the first worker be it")
    cluster = Cluster(ps, chief[0], workers)
    if task not in cluster.tasks:
        raise ConfigError(f"TF_CONFIG: there is no {kind} {index} in the cluster")
    return cluster, task
