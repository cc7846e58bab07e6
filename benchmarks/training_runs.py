"""One distributed training run on this machine: its speed once all workers take part."""

import asyncio
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model_training.distributed.cluster import Cluster, Task
from model_training.distributed.launcher import Launcher, local_cluster

_STEP = re.compile(r"step ([\d,]+)/")
_SHARE = re.compile(r"slowed: ran (\d\.\d+) of the time")
JOINED = "takes part"
"""Printed by a worker after its first step."""


@dataclass(slots=True)
class Listener:
    """Reads the output of all processes of a run.

    Reports of the chief count once all workers take part.

    Attributes:
        running_share: share of the time in which the straggler ran, as `benchmarks.slowed` prints it; NaN without one.
    """

    workers: int
    running_share: float = float("nan")
    _joined: set[Task] = field(default_factory=set)
    _reports: list[tuple[float, int]] = field(default_factory=list)

    def hear(self, task: Task, line: str, now: float) -> None:
        """Reads one line of `task`, received at `now`, monotonic seconds."""
        if task.role == "worker" and line.startswith(JOINED):
            self._joined.add(task)
        elif found := _SHARE.match(line):
            self.running_share = float(found[1])
        elif task.role == "chief" and (found := _STEP.match(line)) and len(self._joined) == self.workers:
            self._reports.append((now, int(found[1].replace(",", ""))))

    @property
    def steps_per_second(self) -> float:
        """Steps per second of the cluster between counted reports; NaN with fewer than two."""
        if len(self._reports) < 2:
            return float("nan")
        (first, before), (last, after) = self._reports[0], self._reports[-1]
        return (after - before) / (last - first)


def train_distributed(
    arguments: Sequence[str], *, servers: int, computing: int, straggler_times: float | None, log: Path
) -> Listener:
    """Runs `model-training train` with these arguments in every process, to the end.

    Args:
        straggler_times: factor by which the last worker is slower once it takes part; None for no straggler.
        log: receives the output of all processes.

    Raises:
        TrainingError: a process exited and cannot be restarted.
    """
    cluster = local_cluster(servers, computing)
    listener = Listener(len(cluster.workers))
    with log.open("w", encoding="utf-8") as file:

        def say(task: Task, line: str) -> None:
            now = time.monotonic()
            file.write(f"{now:.3f} {task}: {line}\n")
            listener.hear(task, line, now)

        command = _command(cluster, ["train", *arguments], straggler_times)
        asyncio.run(Launcher(cluster, command, say, restarts=0).run())
    return listener


def _command(
    cluster: Cluster, arguments: Sequence[str], straggler_times: float | None
) -> Callable[[Task], Sequence[str]]:
    straggler = cluster.computing[-1]

    def command(task: Task) -> Sequence[str]:
        words = [sys.executable, "-m", "model_training", *arguments]
        if straggler_times is None or task != straggler:
            return words
        slowed = ("-m", "benchmarks.slowed", "--times", str(straggler_times), "--after", JOINED)
        return [sys.executable, *slowed, "--", *words]

    return command
