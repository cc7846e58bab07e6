"""A program as a child process: its start, its signals, its end, and the end of its log in every error."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGCONT, Signals

_STEP_S = 0.05
_KILL_S = 10.0


class Child:
    """One process at a time of one command line, in a group of its own, so that Ctrl-C reaches its parent alone.

    What it writes is added to `log_path`. `error` is what is raised when it fails. Every wait is bounded; no method
    may be called from two threads at once.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_path: Path,
        *,
        environment: Mapping[str, str],
        error: type[Exception],
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._command = command
        self._environment = environment
        self._error = error
        self._stdin = stdin
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = "stopped" if self._process is None else f"pid {self._process.pid}"
        return f"<{self.name}, {state}>"

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self, why_not_ready: Callable[[], str | None], timeout_s: float) -> None:
        """Starts and waits until it is ready. Raises `error`, and then nothing is left running."""
        self.spawn()
        try:
            self.wait_until(why_not_ready, timeout_s)
        except BaseException:
            self.kill()
            raise

    def spawn(self) -> None:
        """Starts without waiting."""
        if self._process is not None:
            raise self._error(f"{self!r} is running already")
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=self._stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                process_group=0,
            )

    def wait_until(self, why_not_ready: Callable[[], str | None], timeout_s: float) -> None:
        """Waits until this says None. Raises `error` if the process ends or `timeout_s` passes."""
        process = self._running()
        deadline = time.monotonic() + timeout_s
        while (why_not := why_not_ready()) is not None:
            if process.poll() is not None:
                raise self._error(f"the {self.name} ended with status {self.wait(_KILL_S)}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise self._error(f"the {self.name} after {timeout_s} s: {why_not}:\n{self.log_tail()}")
            time.sleep(_STEP_S)

    def wait(self, timeout_s: float) -> int:
        """Waits for its end; returns the exit status. Raises subprocess.TimeoutExpired."""
        process = self._running()
        status = process.wait(timeout_s)
        if process.stdin is not None:
            process.stdin.close()
        self._process = None
        return status

    def signal(self, number: Signals) -> None:
        self._running().send_signal(number)

    def stop(self, timeout_s: float) -> int | None:
        """SIGTERM, paused or not, and SIGKILL after `timeout_s`. Returns the exit status, None if none ran."""
        if self._process is None:
            return None
        self._process.send_signal(SIGCONT)
        self._process.terminate()
        try:
            return self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int | None:
        """SIGKILL. Returns the exit status, None if none ran."""
        if self._process is None:
            return None
        self._process.kill()
        return self.wait(_KILL_S)

    def log_tail(self, size: int = 3000) -> str:
        """The end of its log."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")[-size:]

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise self._error(f"the {self.name} is not running")
        return self._process
