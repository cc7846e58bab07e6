"""One worker process, with the supervisor's end of its link."""

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from streamer.errors import ConfigError
from streamer.supervision import messages as m
from streamer.supervision.link import Link


def socket_folder() -> tempfile.TemporaryDirectory[str]:
    """A new folder for the workers' sockets, the only files of the scorer.

    Raises:
        ConfigError: the disk is full or read-only.
    """
    try:
        return tempfile.TemporaryDirectory(prefix="streamer-")
    except OSError as error:
        raise ConfigError(f"no folder for the workers' sockets (TMPDIR names one): {error}") from error


@dataclass(frozen=True, slots=True)
class Program:
    """How a worker is started.

    Attributes:
        check: raises ConfigError if the present settings are wrong.
    """

    command: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    check: Callable[[], object]


@dataclass(frozen=True, slots=True, eq=False)
class WorkerProcess:
    """A running process. Its owner must await `run`, which reaps it."""

    _process: asyncio.subprocess.Process
    _link: Link[m.FromWorker]

    @classmethod
    async def start(cls, program: Program, ops_socket: Path, client_id: str) -> "WorkerProcess":
        """Starts a process. Settings in its environment name its end of the link, among others.

        Raises:
            OSError: the process cannot be started.
        """
        ours, theirs = socket.socketpair()
        link = await Link.over(ours, m.FROM_WORKER)
        with theirs:
            number = theirs.fileno()
            try:
                # In its own process group: Ctrl-C on a terminal reaches only the supervisor, which stops the workers.
                process = await asyncio.create_subprocess_exec(
                    *program.command,
                    env={
                        **program.environment,
                        "STREAMER_OPS__SOCKET": str(ops_socket),
                        "STREAMER_KAFKA__CLIENT_ID": client_id,
                        "STREAMER_SUPERVISOR__LINK": str(number),
                    },
                    pass_fds=[number],
                    process_group=0,
                )
            except OSError:
                link.close()
                raise
        return cls(process, link)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def run(self, receive: Callable[[m.FromWorker], None]) -> int:
        """Passes on the worker's messages until it ends, and reaps it; returns its exit status.

        Raises:
            ValueError: as `Link.messages`.
        """
        try:
            async for message in self._link.messages():
                receive(message)
        finally:
            self._link.close()
        return await self._process.wait()

    async def kill(self) -> int:
        """Kills the process and reaps it; returns its exit status."""
        self.signal(signal.SIGKILL)
        return await self._process.wait()

    def send(self, message: m.ToWorker) -> None:
        """Sends a command, unless the process has ended."""
        self._link.send(message)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, unless the process has ended."""
        # Not `Process.send_signal`: if the worker ends at this moment, that method reaps it, and the event loop then
        # reports exit status 255.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)
