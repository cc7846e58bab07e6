"""A model server as a child process."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sandbox.errors import SandboxError
from sandbox.host.parent import EXIT_WITH_STDIN
from sandbox.host.ports import accepts, free_ports
from sandbox.model_server.flags import to_arguments
from sandbox.processes.child import Child

ONE_THREAD_PER_CALL = {"tensorflow_intra_op_parallelism": 1}
"""Flags of a server that runs several calls at the same time: with one thread per call no thread waits for another."""


class ModelServerError(SandboxError):
    """The server exited or did not open its port in time; the message has the tail of its log."""


class ModelServerProcess:
    """One server process, which exits when its parent does.

    - `base_path` and `name` serve one model; `config` is a file in TensorFlow Serving's text form; `command` starts
      another program with that API: arguments of Python, to which the ports are added. Give one of the three.
    - `flags` are further flags of tensorflow_model_server.
    - The gRPC port is `port` or a free one, and stays the same over restarts, so clients can reconnect. With
      `rest_port` the server also has the REST API, at that port.
    - Every wait is bounded. Not safe for use from several threads.
    """

    def __init__(
        self,
        base_path: Path | str | None = None,
        name: str = "default",
        *,
        config: Path | str | None = None,
        command: Sequence[str] | None = None,
        port: int | None = None,
        rest_port: int | None = None,
        flags: Mapping[str, object] | None = None,
        log_path: Path | str | None = None,
        start_timeout_s: float = 300.0,
    ) -> None:
        if sum(given is not None for given in (base_path, config, command)) != 1:
            raise ValueError("give one of base_path, config and command")
        self.port = port if port is not None else free_ports(1)[0]
        self.address = f"127.0.0.1:{self.port}"
        self.rest_port = rest_port
        ports = {"port": self.port} | ({} if rest_port is None else {"rest_api_port": rest_port})
        source: dict[str, object] = (
            {"model_config_file": Path(config).absolute()}
            if config is not None
            else {"model_name": name, "model_base_path": Path(base_path or "").absolute()}
        )
        arguments = to_arguments({**ports, **source, **(flags or {})})
        arguments = ["-m", "sandbox.model_server", *arguments] if command is None else [*command, *to_arguments(ports)]
        self.log_path = Path(log_path) if log_path is not None else _log_path(self.port)
        self._start_timeout_s = start_timeout_s
        self._child = Child(
            f"model server at {self.address}",
            [sys.executable, *arguments],
            self.log_path,
            environment={**os.environ, EXIT_WITH_STDIN: "1"},
            error=ModelServerError,
            stdin=subprocess.PIPE,
        )

    def __repr__(self) -> str:
        return repr(self._child)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._child.pid

    def start(self) -> None:
        """Starts it and waits until the port is open.

        Raises `ModelServerError`; no process is left then.
        """
        self._child.start(self._why_not_ready, self._start_timeout_s)

    def spawn(self) -> None:
        """Starts the process without waiting for the port."""
        self._child.spawn()

    def wait(self, timeout_s: float) -> int:
        """Waits for the exit of the process; returns its status. Raises subprocess.TimeoutExpired."""
        return self._child.wait(timeout_s)

    def stop(self, timeout_s: float = 120.0) -> int | None:
        """Sends SIGTERM, and SIGKILL after `timeout_s`.

        Returns the exit status; None if no process ran.
        """
        return self._child.stop(timeout_s)

    def kill(self) -> int | None:
        """Sends SIGKILL, also to a paused process. Returns the exit status; None if no process ran."""
        return self._child.kill()

    def restart(self) -> None:
        """Stops it and starts it on the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Pauses the process (SIGSTOP): connections stay open and requests get no answer."""
        self._child.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        self._child.signal(signal.SIGCONT)

    def _why_not_ready(self) -> str | None:
        ports = [self.port] if self.rest_port is None else [self.port, self.rest_port]
        closed = [str(port) for port in ports if not accepts(port)]
        return f"port {' and '.join(closed)} not open" if closed else None


def _log_path(port: int) -> Path:
    return Path("build", "model_server", f"{os.getpid()}-{port}.log").absolute()
