"""A Java program of Kafka as a child process with its own process group."""

import os
import signal
import subprocess
import time
from pathlib import Path

from sandbox.broker.errors import BrokerError
from sandbox.broker.jars import log_tail
from sandbox.host.parent import parent_bound_command

_STOP_TIMEOUT_S = 30.0


class JavaProcess:
    """Runs one program of Kafka's jars at a time; its output is appended to `log_path`.

    The thread that spawns a program must live as long as the program: its end kills the process.
    Not safe for use from several threads.
    """

    def __init__(self, folder: Path, log_path: Path) -> None:
        self._folder, self._log_path = folder, log_path
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id; None if no program runs."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the process exists; true also while it is paused."""
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Exit status of the last program; None while it runs and before the first one."""
        return None if self._process is None else self._process.poll()

    def spawn(self, libs: Path, heap_mb: int, *program: str) -> None:
        """Starts a program, options of Java before its class, without waiting for it.

        Raises BrokerError if the operating system does not allow it.
        """
        options = [f"-Xms{heap_mb}m", f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"]
        # The broker runs for minutes: the second JIT compiler would cost more CPU time than it saves.
        options += ["-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
        options += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
        command = parent_bound_command(["java", *options, "-cp", f"{libs}/*", *program])
        try:
            with self._log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
        except OSError as error:
            raise BrokerError(f"Java cannot be started: {error}") from error

    def wait(self, deadline: float) -> int | None:
        """Waits for the exit, until `deadline` in monotonic seconds; returns the status, or None."""
        assert self._process is not None
        try:
            return self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process group, if the program runs."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def stop(self) -> None:
        """Sends SIGTERM, also to a paused process, and SIGKILL after 30 s."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            if self._process is not None:
                self.wait(time.monotonic() + _STOP_TIMEOUT_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """Sends SIGKILL and waits for the end."""
        if self._process is None:
            return
        self.signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def failure(self, reason: str) -> str:
        """The text of an error: the reason, the exit status and the tail of the log."""
        tail = log_tail(self._log_path.read_text("utf-8", "replace"))
        return f"{reason} (exit status {self.status}; log {self._log_path}):\n{tail}"
