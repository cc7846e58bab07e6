"""A supervisor with its workers and standbys: the processes of one machine."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import orjson
import psutil

from sandbox.errors import SandboxError
from sandbox.processes.scorer import ScorerError

_STEP_S = 0.1
_SETTLE_S = 120.0


class NotSettledError(SandboxError):
    """The workers did not reach the expected states in time; the message has their states."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker, as `GET /workers` shows it; ready states are `active` and `standby`."""

    number: int
    pid: int | None
    state: str
    partitions: tuple[int, ...]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """The worker of one entry of the list."""
        return cls(entry["worker"], entry["pid"], entry["state"], tuple(entry["partitions"]))


class OperationsPort(Protocol):
    """A process with an operations port."""

    @property
    def pid(self) -> int: ...

    def get(self, path: str) -> str:
        """The body of a page. Raises ScorerError unless its status is 200."""


def _children_of(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


class Machine:
    """The processes of one supervisor with `workers` active and `standby` waiting processes.

    `signal` sends a signal to one process; `children` lists the processes that a process has started.
    """

    def __init__(
        self,
        process: OperationsPort,
        workers: int,
        standby: int,
        *,
        signal: Callable[[int, signal.Signals], None] = os.kill,
        children: Callable[[int], Sequence[int]] = _children_of,
    ) -> None:
        self._process, self._active, self._standby = process, workers, standby
        self._signal, self._children = signal, children

    def workers(self) -> list[Worker]:
        """All workers. Raises ScorerError if the supervisor does not answer."""
        return [Worker.of(entry) for entry in orjson.loads(self._process.get("/workers"))]

    def active(self) -> list[Worker]:
        """The active workers with partitions."""
        return [worker for worker in self.workers() if worker.state == "active" and worker.partitions]

    def partitions(self) -> set[int]:
        """The partitions of the active workers."""
        return {partition for worker in self.active() for partition in worker.partitions}

    def why_not_settled(self) -> str | None:
        """None if all workers are active or ready standbys; else their states."""
        try:
            found = self.workers()
        except ScorerError as error:
            return str(error)
        states = [worker.state for worker in found]
        settled = states.count("active") == self._active == len([worker for worker in found if worker.partitions])
        return None if settled and states.count("standby") >= self._standby else str(found)

    def kill(self, worker: Worker) -> None:
        """Sends SIGKILL to one worker that has a process."""
        assert worker.pid is not None
        self._signal(worker.pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """Sends SIGKILL to the supervisor and to all its workers, before any of them can react."""
        supervisor = self._process.pid
        self._signal(supervisor, signal.SIGSTOP)  # so that it starts no other worker meanwhile
        for child in self._children(supervisor):
            self._signal(child, signal.SIGKILL)
        self._signal(supervisor, signal.SIGKILL)


def wait_until_settled(machines: Sequence[Machine], partitions: int, timeout_s: float = _SETTLE_S) -> None:
    """Waits until the machines' workers are ready and have each of the partitions once.

    Raises NotSettledError after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while (why_not := _why_not_settled(machines, partitions)) is not None:
        if time.monotonic() > deadline:
            raise NotSettledError(f"not settled after {timeout_s:g} s: {why_not}")
        time.sleep(_STEP_S)


def _why_not_settled(machines: Sequence[Machine], partitions: int) -> str | None:
    for machine in machines:
        if (why_not := machine.why_not_settled()) is not None:
            return why_not
    try:
        owned = sorted(partition for machine in machines for partition in machine.partitions())
    except ScorerError as error:
        return str(error)
    return None if owned == list(range(partitions)) else f"partitions {owned}"
