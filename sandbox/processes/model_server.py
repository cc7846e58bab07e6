"""A model server as a child process."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sandbox.errors import SandboxError
from sandbox.host.parent import parent_bound_command
from sandbox.host.ports import accepts, free_ports, is_free
from sandbox.model_server.flags import to_arguments
from sandbox.processes.child import Child
from sandbox.processes.server_program import server_program

ONE_THREAD_PER_CALL = {"tensorflow_intra_op_parallelism": 1}
"""Flags of a server that runs several calls at the same time: with one thread per call no thread waits for another."""
_ENOUGH_THREADS = {"grpc_max_threads": 64}
"""TensorFlow Serving rejects calls above this number; its default of four per core is few on a small machine."""


class ModelServerError(SandboxError):
    """The server exited or did not open its port in time; the message has the tail of its log."""


class ModelServerProcess:
    """One server process, killed when the thread that started it ends.

    - The program is TensorFlow Serving's binary where it exists, else the stand-in (`server_program`); `version` is its
      version. Callers rely only on behaviour of the binary: a signal ends it at once, so its exit status is negative.
    - `base_path` and `name` serve one model; `config` is a file in TensorFlow Serving's text form; `command` starts
      a simulated server instead: arguments of Python, to which the ports are added. Give one of the three.
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
        self._ports = tuple(ports.values())
        source: dict[str, object] = (
            {"model_config_file": Path(config).absolute()}
            if config is not None
            else {"model_name": name, "model_base_path": Path(base_path or "").absolute()}
        )
        if command is None:
            program = server_program()
            self.version = program.version
            arguments = [*program.command, *to_arguments({**ports, **source, **_ENOUGH_THREADS, **(flags or {})})]
        else:
            self.version = "simulated"
            arguments = [sys.executable, *command, *to_arguments(ports)]
        self.log_path = Path(log_path) if log_path is not None else _log_path(self.port)
        self._start_timeout_s = start_timeout_s
        self._child = Child(
            f"model server at {self.address}",
            parent_bound_command(arguments),
            self.log_path,
            environment=os.environ,
            error=ModelServerError,
        )

    @property
    def rest_address(self) -> str:
        """Address of the REST API."""
        assert self.rest_port is not None, "without rest_port the server has no REST API"
        return f"127.0.0.1:{self.rest_port}"

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
        self._check_ports()
        self._child.start(self._why_not_ready, self._start_timeout_s)

    def spawn(self) -> None:
        """Starts the process without waiting for the port."""
        self._check_ports()
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

    def _check_ports(self) -> None:
        """Rejects a port in use, which TensorFlow Serving would share silently.

        Raises `ModelServerError`.
        """
        for port in self._ports:
            if not is_free(port):
                raise ModelServerError(f"port {port} of the model server is in use")

    def _why_not_ready(self) -> str | None:
        closed = [str(port) for port in self._ports if not accepts(port)]
        return f"port {' and '.join(closed)} not open" if closed else None


def _log_path(port: int) -> Path:
    return Path("build", "model_server", f"{os.getpid()}-{port}.log").absolute()
