"""Several workers under one supervisor: processes of one consumer group behind one operations port."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from structlog.typing import FilteringBoundLogger

from streamer.errors import ConfigError
from streamer.ops.supervisor_http import WorkerPages
from streamer.settings import Settings
from streamer.settings.sections import SupervisorSettings
from streamer.tasks import set_within

_WRONG_SETTINGS = 2


class Worker:
    """One child process, started again when it ends by itself: after a pause that grows, up to a limit."""

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        socket: Path,
        settings: SupervisorSettings,
        log: FilteringBoundLogger,
    ) -> None:
        self.number = number
        self.socket = socket
        self._command = command
        self._environment = environment
        self._settings = settings
        self._log = log.bind(worker=number)
        self._process: asyncio.subprocess.Process | None = None
        self._stop = asyncio.Event()
        self._reloading = False
        self._ends: deque[float] = deque()

    @property
    def pid(self) -> int | None:
        """The process id, None while there is none."""
        return None if self._process is None else self._process.pid

    async def run(self) -> int:
        """Keeps the worker running until it is told to stop; returns its last exit status."""
        while True:
            status = await self._run_once()
            if self._stop.is_set() or status == _WRONG_SETTINGS:
                return status
            if self._reloading:
                self._reloading = False
                continue
            pause_s = self._pause()
            if pause_s is None:
                self._log.error("worker ends too often, it is not started again", status=status)
                return status
            self._log.error("worker ended, it is started again", status=status, pause_s=pause_s)
            if await set_within(self._stop, pause_s):
                return status

    def stop(self) -> None:
        """Begins to drain, for good."""
        self._stop.set()
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once."""
        self._stop.set()
        self._send(signal.SIGKILL)

    async def reload(self, is_ready: Callable[["Worker"], Coroutine[Any, Any, bool]]) -> None:
        """Drains the process and starts another one, which reads its settings anew; returns when that one is ready."""
        old = self.pid
        # Where none runs, the next one to end has not been told to.
        self._reloading = old is not None
        self._send(signal.SIGTERM)
        while self.pid in (old, None) or not await is_ready(self):
            if await set_within(self._stop, self._settings.poll_ms / 1e3):
                return

    async def _run_once(self) -> int:
        self.socket.unlink(missing_ok=True)
        # In a group of its own: Ctrl-C on a terminal is for the supervisor, who tells the workers.
        self._process = await asyncio.create_subprocess_exec(*self._command, env=self._environment, process_group=0)
        self._log.info("worker started", pid=self._process.pid)
        if self._settings.pin_to_cores:
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(self._process.pid, {cores[self.number % len(cores)]})
        if self._stop.is_set():
            self._send(signal.SIGTERM)
        try:
            status = await self._process.wait()
        finally:
            self._process = None
        # One that was told to drain before it could listen has read nothing: it has drained.
        return 0 if self._stop.is_set() and status == -signal.SIGTERM else status

    def _pause(self) -> float | None:
        """Seconds until the next start; None if it has ended too often within the window."""
        now = time.monotonic()
        while self._ends and self._ends[0] < now - self._settings.restart_window_s:
            self._ends.popleft()
        self._ends.append(now)
        if len(self._ends) > self._settings.max_restarts:
            return None
        return self._settings.restart_pause_ms / 1e3 * 2.0 ** (len(self._ends) - 1)

    def _send(self, number: signal.Signals) -> None:
        # Not the process's own method: where a worker ends at this moment it would take the exit status away from the
        # loop, which then knows none and says 255.
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


class Supervisor:
    """Owns the workers and the operations port.

    SIGTERM or SIGINT drains all workers; a second one ends them at once. SIGHUP restarts one after the other, each only
    when the one before it scores again, unless `check` says that the settings are wrong now. A worker that ends too
    often ends the supervisor, after the others have drained: whatever watches it shall see that something is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        log: FilteringBoundLogger,
        command: Sequence[str],
        environment: Mapping[str, str],
        check: Callable[[], object],
    ) -> None:
        self._settings = settings
        self._check = check
        self._log = log
        self._folder = tempfile.TemporaryDirectory(prefix="streamer-")
        self.workers = [
            Worker(
                number,
                command,
                _environment(environment, settings, number, self._socket(number)),
                socket=self._socket(number),
                settings=settings.supervisor,
                log=log,
            )
            for number in range(settings.supervisor.workers)
        ]
        self._pages = WorkerPages(settings.ops, {w.number: w.socket for w in self.workers}, self._is_pausing)
        self._stopping = False
        self._reload = asyncio.Event()

    async def run(self) -> int:
        """Runs until every worker has ended; returns 0 if all of them drained, else the worst exit status.

        Raises:
            ConfigError: the operations port is taken.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        try:
            await self._pages.start()
        except OSError as error:
            ops = self._settings.ops
            raise ConfigError(f"ops: cannot listen on {ops.host}:{ops.port}: {error.strerror}") from error
        self._log.info("supervising", workers=len(self.workers), port=self._pages.port)
        try:
            async with asyncio.TaskGroup() as tasks:
                reloading = tasks.create_task(self._reload_when_told())
                running = [tasks.create_task(self._run(worker)) for worker in self.workers]
                statuses = [await task for task in running]
                reloading.cancel()
            return max((abs(status) for status in statuses), default=0)
        finally:
            await self._pages.stop()
            self._folder.cleanup()

    @property
    def port(self) -> int:
        """Of the operations port."""
        return self._pages.port

    def stop(self) -> None:
        """Begins to drain all workers."""
        self._stopping = True
        for worker in self.workers:
            worker.stop()

    async def _run(self, worker: Worker) -> int:
        status = await worker.run()
        if not self._stopping:
            self.stop()
        return status

    def _signalled(self, number: signal.Signals) -> None:
        if self._stopping:
            self._log.error("second signal, ending the workers at once; what is in flight will be read again")
            for worker in self.workers:
                worker.kill()
            return
        self._log.info("draining", signal=signal.Signals(number).name)
        self.stop()

    async def _reload_when_told(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            try:
                self._check()
            except ConfigError as error:
                self._log.error("the settings are wrong, nothing is reloaded", error=str(error))
                continue
            for worker in self.workers:
                self._log.info("worker reloads", worker=worker.number)
                await worker.reload(self._is_ready)

    async def _is_ready(self, worker: Worker) -> bool:
        return await self._pages.is_ready(worker.number)

    def _is_pausing(self, number: int) -> bool:
        return self.workers[number].pid is None

    def _socket(self, number: int) -> Path:
        return Path(self._folder.name) / f"worker-{number}.sock"


def _environment(inherited: Mapping[str, str], settings: Settings, number: int, socket: Path) -> dict[str, str]:
    """What makes a worker one of several: its own operations socket, client id and place in the group."""
    ours = {
        "STREAMER_OPS__SOCKET": str(socket),
        "STREAMER_SUPERVISOR__WORKERS": "1",
        "STREAMER_KAFKA__CLIENT_ID": f"{settings.kafka.client_id}-{number}",
    }
    if settings.kafka.group_instance_id is not None:
        ours["STREAMER_KAFKA__GROUP_INSTANCE_ID"] = f"{settings.kafka.group_instance_id}-{number}"
    return {**inherited, **ours}


def command_of(config: Path | None) -> list[str]:
    """The command that starts one worker with the same settings."""
    return [sys.executable, "-m", "streamer", "run", *(() if config is None else ("--config", str(config)))]
