"""A model server as a child process: for tests, the demo and benchmarks."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sandbox.model_server.flags import to_arguments

# Set for a child whose standard input is a pipe from its parent: it ends when the pipe does.
_EXIT_WITH_STDIN = "MODEL_SERVER_EXIT_WITH_STDIN"
_STEP_S = 0.02

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
        self.port = port if port is not None else _free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.log_path = Path(log_path) if log_path is not None else _log_path(self.port)
        source: dict[str, object] = (
            {"model_config_file": Path(config).absolute()}
            if config is not None
            else {"model_name": name, "model_base_path": Path(base_path or "").absolute()}
        )
        arguments = to_arguments({"port": self.port, **source, **(flags or {})})
        self._command = (
            ["-m", "sandbox.model_server", *arguments] if command is None else [*command, f"--port={self.port}"]
        )
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = "stopped" if self._process is None else f"pid {self._process.pid}"
        return f"<ModelServerProcess {self.address} {state}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Start and wait until the port is open. Raises `ModelServerError`, and then nothing is left running."""
        self.spawn()
        try:
            self.wait_until_open(self._start_timeout_s)
        except BaseException:
            self.kill()
            raise

    def spawn(self) -> None:
        """Start without waiting for the port."""
        if self._process is not None:
            raise ModelServerError(f"{self!r} is running already")
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            # Its own group, but this session: if the parent dies while the child is paused, the kernel wakes it.
            self._process = subprocess.Popen(
                [sys.executable, *self._command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, _EXIT_WITH_STDIN: "1"},
                process_group=0,
            )

    def wait_until_open(self, timeout_s: float) -> None:
        """Wait for the port. Raises `ModelServerError` if the process ends or `timeout_s` passes."""
        process = self._running()
        deadline = time.monotonic() + timeout_s
        while not _is_open(self.port):
            if process.poll() is not None:
                status = self.wait(1.0)
                raise ModelServerError(f"the server ended with status {status}:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise ModelServerError(f"port {self.port} is not open after {timeout_s} s:\n{self._log_tail()}")
            time.sleep(_STEP_S)

    def wait(self, timeout_s: float) -> int:
        """Wait until the process has ended by itself; returns its exit status. Raises subprocess.TimeoutExpired."""
        process = self._running()
        status = process.wait(timeout_s)
        self._forget(process)
        return status

    def stop(self, timeout_s: float = 120.0) -> int | None:
        """Tell it to end and wait; after `timeout_s` it is killed. Returns the exit status, None if none ran."""
        if self._process is None:
            return None
        self.resume()
        self._process.terminate()
        try:
            return self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int | None:
        """SIGKILL, paused or not. Returns the exit status, None if none ran."""
        if self._process is None:
            return None
        self._process.kill()
        return self.wait(10.0)

    def restart(self) -> None:
        """Stop and start on the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP, in effect on return: connections stay open and nothing answers."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ModelServerError(f"{self!r} is not running")
        return self._process

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            process.stdin.close()
        self._process = None

    def _log_tail(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")[-2000:]


def end_with_parent() -> None:
    """For the child: from now on it ends as soon as the parent that started it here does, however that one ended."""
    if _EXIT_WITH_STDIN in os.environ:
        threading.Thread(target=_exit_with_stdin, name="parent", daemon=True).start()


def _exit_with_stdin() -> None:
    """The parent holds the other end of standard input; when it is gone, so are we."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _log_path(port: int) -> Path:
    return Path("build", "model_server", f"{os.getpid()}-{port}.log").absolute()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
