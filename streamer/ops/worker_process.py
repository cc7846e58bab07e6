"""One worker as a child process of a supervisor."""

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from streamer.settings.deployment import SupervisorSettings
from streamer.tasks import set_within

_WRONG_SETTINGS = 2


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """A child process that is restarted when it ends without a command to stop.

    The pause before a restart doubles with each end within `restart_window_s`. After `max_restarts` restarts in this
    window the worker stays down.
    """

    number: int
    command: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    socket: Path
    settings: SupervisorSettings
    log: FilteringBoundLogger
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)
    _stop: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _reloading: bool = field(default=False, init=False)
    _ends: deque[float] = field(default_factory=deque, init=False)

    @property
    def pid(self) -> int | None:
        """The process id; None while no process runs."""
        return None if self._process is None else self._process.pid

    async def run(self) -> int:
        """Keeps the worker running until `stop` or `kill`; returns its last exit status."""
        while True:
            status = await self._run_once()
            if self._stop.is_set() or status == _WRONG_SETTINGS:
                return status
            if self._reloading:
                self._reloading = False
                continue
            pause_s = self._restart_pause()
            if pause_s is None:
                self.log.error("worker ended too often, not restarted", status=status)
                return status
            self.log.error("worker ended, will be restarted", status=status, pause_s=pause_s)
            if await set_within(self._stop, pause_s):
                return status

    def stop(self) -> None:
        """Drains the worker and does not restart it."""
        self._stop.set()
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the worker at once."""
        self._stop.set()
        self._send(signal.SIGKILL)

    async def reload(self, is_ready: Callable[[int], Awaitable[bool]]) -> None:
        """Drains the process, starts one that reads the settings again, and waits until it is ready."""
        old = self.pid
        # Without a running process, the next end is a crash and not part of this reload.
        self._reloading = old is not None
        self._send(signal.SIGTERM)
        while self.pid in (old, None) or not await is_ready(self.number):
            if await set_within(self._stop, self.settings.poll_ms / 1e3):
                return

    async def _run_once(self) -> int:
        self.socket.unlink(missing_ok=True)
        # In its own process group: Ctrl-C on a terminal reaches only the supervisor, which then stops the workers.
        self._process = await asyncio.create_subprocess_exec(*self.command, env=self.environment, process_group=0)
        self.log.info("worker started", pid=self._process.pid)
        if self.settings.pin_to_cores:
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(self._process.pid, {cores[self.number % len(cores)]})
        if self._stop.is_set():
            self._send(signal.SIGTERM)
        try:
            status = await self._process.wait()
        finally:
            self._process = None
        # SIGTERM ended it before it could handle signals: it has read nothing, so it counts as drained.
        return 0 if self._stop.is_set() and status == -signal.SIGTERM else status

    def _restart_pause(self) -> float | None:
        """Seconds until the next start; None after too many ends within the window."""
        now = time.monotonic()
        while self._ends and self._ends[0] < now - self.settings.restart_window_s:
            self._ends.popleft()
        self._ends.append(now)
        if len(self._ends) > self.settings.max_restarts:
            return None
        return self.settings.restart_pause_ms / 1e3 * 2.0 ** (len(self._ends) - 1)

    def _send(self, number: signal.Signals) -> None:
        # Not `Process.send_signal`: if the worker ends at this moment, that method reaps it, and the event loop then
        # reports exit status 255.
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)
