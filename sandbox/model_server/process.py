"""A model server as a child process: for tests, the demo and benchmarks."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sandbox.broker.ports import accepts, free_ports
from sandbox.child import Child
from sandbox.model_server.flags import to_arguments

# Set for a child whose standard input is a pipe from its parent: it ends when the pipe does.
_EXIT_WITH_STDIN = "MODEL_SERVER_EXIT_WITH_STDIN"

ONE_THREAD_A_CALL = {"tensorflow_intra_op_parallelism": 1}
"""Flags for a server whose cores have several calls at once to work on: threads that wait for each other inside of a
call cost more than they save."""


class ModelServerError(Exception):
    """The server ended or did not open its port in time; the message holds the end of its log."""


class ModelServerProcess:
    """One server process, which dies with its parent.

    `base_path` and `name` serve one model, `config` a file in TensorFlow Serving's text form. `flags` are any other
    flags of tensorflow_model_server. `command` starts another program with that API instead (Python's arguments, to
    which `--port` is added). The port is a free one unless given, and stays the same over restarts, so that clients
    reconnect. Every wait is bounded; no method may be called from two threads at once.
    """

    def __init__(
        self,
        base_path: Path | str | None = None,
        name: str = "default",
        *,
        config: Path | str | None = None,
        command: Sequence[str] | None = None,
        port: int | None = None,
        flags: Mapping[str, object] | None = None,
        log_path: Path | str | None = None,
        start_timeout_s: float = 300.0,
    ) -> None:
        if sum(given is not None for given in (base_path, config, command)) != 1:
            raise ValueError("give one of base_path, config and command")
        self.port = port if port is not None else free_ports(1)[0]
        self.address = f"127.0.0.1:{self.port}"
        source: dict[str, object] = (
            {"model_config_file": Path(config).absolute()}
            if config is not None
            else {"model_name": name, "model_base_path": Path(base_path or "").absolute()}
        )
        arguments = to_arguments({"port": self.port, **source, **(flags or {})})
        arguments = ["-m", "sandbox.model_server", *arguments] if command is None else [*command, f"--port={self.port}"]
        self.log_path = Path(log_path) if log_path is not None else _log_path(self.port)
        self._start_timeout_s = start_timeout_s
        self._child = Child(
            f"model server at {self.address}",
            [sys.executable, *arguments],
            self.log_path,
            environment={**os.environ, _EXIT_WITH_STDIN: "1"},
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
        """Start and wait until the port is open. Raises `ModelServerError`, and then nothing is left running."""
        self._child.start(self._why_not_ready, self._start_timeout_s)

    def spawn(self) -> None:
        """Start without waiting for the port."""
        self._child.spawn()

    def wait_until_open(self, timeout_s: float) -> None:
        """Wait for the port. Raises `ModelServerError` if the process ends or `timeout_s` passes."""
        self._child.wait_until(self._why_not_ready, timeout_s)

    def wait(self, timeout_s: float) -> int:
        """Wait until the process has ended by itself; returns its exit status. Raises subprocess.TimeoutExpired."""
        return self._child.wait(timeout_s)

    def stop(self, timeout_s: float = 120.0) -> int | None:
        """Tell it to end and wait; after `timeout_s` it is killed. Returns the exit status, None if none ran."""
        return self._child.stop(timeout_s)

    def kill(self) -> int | None:
        """SIGKILL, paused or not. Returns the exit status, None if none ran."""
        return self._child.kill()

    def restart(self) -> None:
        """Stop and start on the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP, in effect on return: connections stay open and nothing answers."""
        self._child.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        self._child.signal(signal.SIGCONT)

    def _why_not_ready(self) -> str | None:
        return None if accepts(self.port) else "its port is not open"


def end_with_parent() -> None:
    """For the child: from now on it ends as soon as the parent that started it here does, however that one ended."""
    if _EXIT_WITH_STDIN in os.environ:
        threading.Thread(target=_exit_with_stdin, name="parent", daemon=True).start()


def _exit_with_stdin() -> None:
    """The parent holds the other end of standard input; when it is gone, so are we."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def _log_path(port: int) -> Path:
    return Path("build", "model_server", f"{os.getpid()}-{port}.log").absolute()
