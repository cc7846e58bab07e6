"""A program as a child process: start, signals, exit; every error has the tail of its log."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGCONT, Signals

_STEP_S = 0.05
_KILL_S = 10.0


class Child:
    """Runs one command line as at most one process at a time.

    - The process has its own process group, so Ctrl-C reaches only its parent.
    - Its output is appended to `log_path`.
    - A failure raises `error`, with the tail of the log.
    - Every wait is bounded. Not safe for use from several threads.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_path: Path,
        *,
        environment: Mapping[str, str],
        error: type[Exception],
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._command = command
        self._environment = environment
        self._error = error
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = "stopped" if self._process is None else f"pid {self._process.pid}"
        return f"<{self.name}, {state}>"

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self, why_not_ready: Callable[[], str | None], timeout_s: float) -> None:
        """Starts the process and waits until it is ready. Raises `error`; no process is left then."""
        self.spawn()
        try:
            self.wait_until(why_not_ready, timeout_s)
        except BaseException:
            self.kill()
            raise

    def spawn(self) -> None:
        """Starts the process without waiting."""
        if self._process is not None:
            raise self._error(f"{self!r} is already running")
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                process_group=0,
            )

    def wait_until(self, why_not_ready: Callable[[], str | None], timeout_s: float) -> None:
        """Waits until `why_not_ready` returns None.

        Raises `error` if the process exits or `timeout_s` passes.
        """
        process = self._running()
        deadline = time.monotonic() + timeout_s
        while (why_not := why_not_ready()) is not None:
            if process.poll() is not None:
                raise self._error(f"the {self.name} exited with status {self.wait(_KILL_S)}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise self._error(f"the {self.name} is not ready after {timeout_s} s: {why_not}:\n{self.log_tail()}")
            time.sleep(_STEP_S)

    def wait(self, timeout_s: float) -> int:
        """Waits for the exit of the process; returns its status. Raises subprocess.TimeoutExpired."""
        process = self._running()
        status = process.wait(timeout_s)
        self._process = None
        return status

    def signal(self, number: Signals) -> None:
        self._running().send_signal(number)

    def stop(self, timeout_s: float) -> int | None:
        """Sends SIGTERM, also if paused, and SIGKILL after `timeout_s`.

        Returns the exit status; None if none ran.
        """
        if self._process is None:
            return None
        self._process.send_signal(SIGCONT)
        self._process.terminate()
        try:
            return self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int | None:
        """Sends SIGKILL. Returns the exit status; None if no process ran."""
        if self._process is None:
            return None
        self._process.kill()
        return self.wait(_KILL_S)

    def log_tail(self, size: int = 3000) -> str:
        """The tail of its log."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")[-size:]

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise self._error(f"the {self.name} is not running")
        return self._process
