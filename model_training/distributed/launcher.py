"""Runs all processes of a run on this machine: starts, monitors, restarts and ends them."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from model_training.distributed.cluster import Cluster, Task
from model_training.distributed.lifeline import LIFELINE
from model_training.distributed.supervision import Supervision
from model_training.errors import TrainingError

_LAST_LINES = 20
_LINE_CHARACTERS = 4096
_SIGN_OFF_SECONDS = 60.0

Say = Callable[[Task, str], None]


class InterruptedRunError(TrainingError):
    """A signal stopped the run before its end."""


def local_cluster(servers: int, computing: int) -> Cluster:
    """A cluster on free loopback ports; one of the `computing` processes is the chief."""
    with contextlib.ExitStack() as stack:
        # All ports stay bound until the last one is known, so no port is chosen twice.
        holders = [stack.enter_context(socket.socket()) for _ in range(servers + computing)]
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{holder.getsockname()[1]}" for holder in holders]
    return Cluster(tuple(addresses[:servers]), addresses[servers], tuple(addresses[servers + 1 :]))


def _without_proxy(environment: Mapping[str, str]) -> str:
    """The hosts that gRPC reaches without a proxy, with this machine, where the tasks run."""
    hosts = environment.get("no_grpc_proxy", environment.get("no_proxy", ""))
    return f"{hosts},127.0.0.1" if hosts else "127.0.0.1"


@dataclass(slots=True)
class _Child:
    task: Task
    process: asyncio.subprocess.Process
    last: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))

    async def follow(self, say: Say) -> int:
        """Passes on the process's output, line by line, and returns its exit status."""
        assert self.process.stdout is not None
        rest = b""
        while chunk := await self.process.stdout.read(1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._line(line, say)
            if len(rest) > _LINE_CHARACTERS:
                self._line(rest, say)
                rest = b""
        if rest:
            self._line(rest, say)
        return await self.process.wait()

    def _line(self, line: bytes, say: Say) -> None:
        text = line.decode(errors="replace").rstrip()[:_LINE_CHARACTERS]
        if text:
            self.last.append(text)
            say(self.task, text)

    def signal(self, number: int) -> None:
        """Sends a signal to the process and its children, if it still runs."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)


class Launcher:
    """Runs a cluster's processes until the training ends.

    Invariants: (1) no process that it started outlives `run`, however `run` ends; (2) after `run`, SIGINT and SIGTERM
    have their previous handlers.

    Args:
        command: the arguments that start a task, with `TF_CONFIG` in its environment.
        say: receives each line that a task writes, and each restart.
        restarts: the total number of restarts of processes that died.
        termination_seconds: time for a process to end after SIGTERM; then it gets SIGKILL.
    """

    def __init__(
        self,
        cluster: Cluster,
        command: Callable[[Task], Sequence[str]],
        say: Say,
        *,
        restarts: int = 3,
        termination_seconds: float = 10.0,
    ) -> None:
        self._termination_seconds = termination_seconds
        self._cluster, self._command, self._say = cluster, command, say
        self._supervision = Supervision(cluster.tasks, restarts=restarts)
        self._running: dict[asyncio.Task[int], _Child] = {}

    async def run(self) -> None:
        """Returns when the model is trained and saved, and all processes have ended.

        Raises:
            InterruptedRunError: SIGINT or SIGTERM arrived.
            TrainingError: a process has died and is not restarted; names it and has its last lines.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in handlers:
            loop.add_signal_handler(number, stop.set)
        stopped = asyncio.create_task(stop.wait(), name="stop")
        try:
            await self._start(self._cluster.tasks)
            await self._watch(stopped)
        finally:
            stopped.cancel()
            await self._end()
            for number, handler in handlers.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

    async def _watch(self, stopped: asyncio.Task[bool]) -> None:
        ends: float | None = None
        while self._running:
            left = None if ends is None else max(0.0, ends - time.monotonic())
            done, _ = await asyncio.wait({stopped, *self._running}, timeout=left, return_when="FIRST_COMPLETED")
            if stopped in done:
                raise InterruptedRunError("stopped by a signal before the end of the training")
            if not done:
                return
            for follower in done & self._running.keys():
                # Absent if all were restarted because another process ended at the same time.
                child = self._running.pop(follower, None)
                if child is not None and await self._ended(child, follower.result()):
                    return
            if ends is None and self._supervision.chief_is_done:
                ends = time.monotonic() + _SIGN_OFF_SECONDS

    async def _ended(self, child: _Child, status: int) -> bool:
        """Executes the supervision's action; returns whether the run is finished."""
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        match self._supervision.ended(child.task, status):
            case "restart":
                self._say(child.task, f"{how}; it is restarted")
                await self._start([child.task])
            case "restart_all":
                self._say(child.task, f"{how}; all processes are restarted from the last checkpoint")
                await self._end()
                await self._start(self._cluster.tasks)
            case "fail":
                last = "".join(f"\n    {line}" for line in child.last) or " nothing"
                raise TrainingError(f"{child.task}: {how}; its last output:{last}")
            case "finish":
                return True
            case "go_on":
                pass
        return False

    async def _start(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            process = await asyncio.create_subprocess_exec(
                *self._command(task),
                # Nothing is written to it; its end means that this process has ended.
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={
                    **os.environ,
                    "TF_CONFIG": self._cluster.tf_config(task),
                    "no_grpc_proxy": _without_proxy(os.environ),
                    "PYTHONUNBUFFERED": "1",
                    LIFELINE: "1",
                },
                # Ctrl-C must reach the launcher only, which ends the other processes in order.
                start_new_session=True,
            )
            child = _Child(task, process)
            self._running[asyncio.create_task(child.follow(self._say), name=str(task))] = child

    async def _end(self) -> None:
        """Ends the processes that still run: SIGTERM first, then SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for child in self._running.values():
                child.signal(number)
            if self._running:
                await asyncio.wait(self._running, timeout=self._termination_seconds)
        self._running.clear()
