"""The scorer as a child process: `streamer run`, with its settings in the environment."""

import http.client
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from sandbox.errors import SandboxError
from sandbox.host import loopback
from sandbox.host.parent import parent_bound_command
from sandbox.host.ports import free_ports
from sandbox.processes.child import Child

MALLOC = {"MALLOC_MMAP_THRESHOLD_": "67108864", "MALLOC_TRIM_THRESHOLD_": "134217728"}
"""Environment of a program: without it glibc maps and unmaps memory for each message of half a megabyte."""
_RPC_S = 2.0


class ScorerError(SandboxError):
    """The scorer exited, or was not ready in time; the message has the tail of its log."""


class ScorerProcess:
    """One `streamer run`, killed when the thread that started it ends.

    `settings` are settings by dotted name (`{"source.budget_ms": 30}`). The operations port is a free port unless
    `settings` has one; `environment` has them all, for other commands, and `variables`. Every wait is bounded.
    """

    def __init__(
        self,
        settings: Mapping[str, object],
        log_path: Path,
        *,
        command: Sequence[str] = ("-m", "streamer", "run"),
        start_timeout_s: float = 300.0,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        (self.port,) = free_ports(1)
        self.settings = {"ops.port": self.port, **settings}
        self.log_path = log_path
        self._start_timeout_s = start_timeout_s
        self.environment = {**_environment(self.settings), **variables}
        self._child = Child(
            "scorer",
            parent_bound_command([sys.executable, *command]),
            log_path,
            environment=self.environment,
            error=ScorerError,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._child.pid

    def start(self) -> None:
        """Starts it and waits until /readyz returns 200.

        Raises `ScorerError`; no process is left then.
        """
        self._child.start(self.why_not_ready, self._start_timeout_s)

    def spawn(self) -> None:
        """Starts the process without waiting."""
        self._child.spawn()

    def wait_until_ready(self, timeout_s: float) -> None:
        """Waits until /readyz returns 200.

        Raises `ScorerError` if the process exits or `timeout_s` passes.
        """
        self._child.wait_until(self.why_not_ready, timeout_s)

    def get(self, path: str) -> str:
        """The body of a page of the operations port. Raises `ScorerError` unless its status is 200."""
        status, body = self._get(path)
        if status != 200:
            raise ScorerError(f"{path}: status {status}: {body}")
        return body

    def metric(self, name: str, **labels: str) -> float:
        """The value of one metric; 0 if it has no value yet."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        for line in self.get("/metrics").splitlines():
            head, _, value = line.rpartition(" ")
            found, _, inside = head.partition("{")
            if found == name and wanted <= set(inside.rstrip("}").split(",")):
                return float(value)
        return 0.0

    def wait(self, timeout_s: float) -> int:
        """Waits for the exit of the process; returns its status. Raises subprocess.TimeoutExpired."""
        return self._child.wait(timeout_s)

    def signal(self, number: signal.Signals) -> None:
        self._child.signal(number)

    def stop(self, timeout_s: float = 120.0) -> int | None:
        """Sends SIGTERM, and SIGKILL after `timeout_s`.

        Returns the exit status; None if no process ran.
        """
        return self._child.stop(timeout_s)

    def kill(self) -> int | None:
        """Sends SIGKILL. Returns the exit status; None if no process ran."""
        return self._child.kill()

    def log_tail(self) -> str:
        """The tail of its log."""
        return self._child.log_tail()

    def why_not_ready(self) -> str | None:
        """Status and text of /readyz, or the error; None if the status is 200."""
        status, body = self._get("/readyz")
        return None if status == 200 else f"/readyz: status {status}: {body.strip()}"

    def _get(self, path: str) -> tuple[int, str]:
        try:
            return loopback.get(self.port, path, _RPC_S)
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)


def _environment(settings: Mapping[str, object]) -> dict[str, str]:
    variables = {
        f"STREAMER_{name.replace('.', '__').upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in settings.items()
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")}
    return {**MALLOC, **inherited, **variables}
