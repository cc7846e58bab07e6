"""The supervisor: several worker processes of one consumer group behind one operations port."""

import asyncio
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from streamer.errors import ConfigError
from streamer.ops.http_server import HttpServer
from streamer.ops.supervisor_handlers import SupervisorHandlers
from streamer.ops.worker_client import WorkerClient
from streamer.ops.worker_process import WorkerProcess
from streamer.settings import Settings
from streamer.tasks import TaskOwner


class Supervisor:
    """Owns the worker processes and the operations port.

    - SIGTERM or SIGINT drains all workers; a second signal ends them at once.
    - SIGHUP reloads the workers one after the other; the next one waits until the one before is ready. If `check`
      raises ConfigError, no worker is reloaded.
    - A worker that ends too often ends the supervisor after the others have drained, so that a process manager such
      as systemd or Kubernetes sees the failure.
    """

    def __init__(
        self,
        settings: Settings,
        log: FilteringBoundLogger,
        command: Sequence[str],
        environment: Mapping[str, str],
        check: Callable[[], object],
    ) -> None:
        self._check = check
        self._log = log
        self._folder = tempfile.TemporaryDirectory(prefix="streamer-")
        sockets = {n: Path(self._folder.name) / f"worker-{n}.sock" for n in range(settings.supervisor.workers)}
        self.workers = [
            WorkerProcess(
                number,
                command,
                {**environment, **_worker_environment(settings, number, socket)},
                socket,
                settings.supervisor,
                log.bind(worker=number),
            )
            for number, socket in sockets.items()
        ]
        self._client = WorkerClient(sockets, lambda number: self.workers[number].pid is not None, settings.ops.token)
        self._server = HttpServer(settings.ops, SupervisorHandlers(self._client).routes())
        self._tasks = TaskOwner()
        self._statuses: list[int] = []
        self._stopping = False
        self._reload = asyncio.Event()

    async def run(self) -> int:
        """Runs until every worker has ended; returns the highest exit status, 0 if all drained.

        Raises:
            ConfigError: the operations port is in use.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        await self._server.start()
        self._log.info("supervisor started", workers=len(self.workers), port=self.port)
        try:
            async with self._tasks as tasks:
                reloading = tasks.spawn(self._reload_on_signal(), "reload workers")
                await asyncio.wait([tasks.spawn(self._run(w), f"worker {w.number}") for w in self.workers])
                reloading.cancel()
            return max(self._statuses)
        finally:
            await self._server.stop()
            self._folder.cleanup()

    @property
    def port(self) -> int:
        """The number of the operations port."""
        return self._server.port

    def stop(self) -> None:
        """Begins to drain all workers."""
        self._stopping = True
        for worker in self.workers:
            worker.stop()

    async def _run(self, worker: WorkerProcess) -> None:
        self._statuses.append(abs(await worker.run()))
        if not self._stopping:
            self.stop()

    def _signalled(self, number: signal.Signals) -> None:
        if self._stopping:
            self._log.error("second signal, workers end at once; records in flight will be read again")
            for worker in self.workers:
                worker.kill()
            return
        self._log.info("draining", signal=signal.Signals(number).name)
        self.stop()

    async def _reload_on_signal(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            try:
                self._check()
            except ConfigError as error:
                self._log.error("wrong settings, no worker is reloaded", error=str(error))
                continue
            for worker in self.workers:
                self._log.info("worker reloads", worker=worker.number)
                await worker.reload(self._client.is_ready)


def _worker_environment(settings: Settings, number: int, socket: Path) -> dict[str, str]:
    """The variables of one worker: its own operations socket, client id and group instance id."""
    ours = {
        "STREAMER_OPS__SOCKET": str(socket),
        "STREAMER_SUPERVISOR__WORKERS": "1",
        "STREAMER_KAFKA__CLIENT_ID": f"{settings.kafka.client_id}-{number}",
    }
    if settings.kafka.group_instance_id is not None:
        ours["STREAMER_KAFKA__GROUP_INSTANCE_ID"] = f"{settings.kafka.group_instance_id}-{number}"
    return ours


def worker_command(config: Path | None) -> list[str]:
    """The command that starts one worker with the same settings file."""
    return [sys.executable, "-m", "streamer", "run", *(() if config is None else ("--config", str(config)))]
