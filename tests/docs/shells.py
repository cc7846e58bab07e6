"""Runs the commands of a page as a person does, in a folder that looks like a checkout."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

from sandbox.host.loopback import get
from sandbox.processes.child import Child
from tests.docs.worked_examples import ROOT

_TIMEOUT_S = 300.0


class Shells:
    """Runs the commands of a person in one folder; those that do not end have a shell of their own."""

    def __init__(self, folder: Path, stack: ExitStack, **variables: str) -> None:
        """`variables` are added to the environment; the folder gets links to those of the repository."""
        self.folder, self._stack = folder, stack
        self._environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "COLUMNS": "200",
            **variables,
        }
        for name in ("configs", "deploy", "sandbox"):
            if not (folder / name).exists():
                (folder / name).symlink_to(ROOT / name)

    def run(self, command: str, status: int = 0) -> str:
        """The output of a command that ends with this status; its question is answered with yes."""
        found = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self._environment,
            input="y\n",
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        assert found.returncode == status, f"{command}\n{found.stdout}{found.stderr}"
        return found.stdout + found.stderr if status else found.stdout

    def start(self, command: str, why_not_ready: Callable[[], str | None]) -> Child:
        """Starts a command, and waits until it is ready; the process ends with the stack."""
        shell = ["bash", "-c", f"cd '{self.folder}' && exec {command}"]
        child = Child(command, shell, self._log_of(command), environment=self._environment, error=AssertionError)
        child.start(why_not_ready, _TIMEOUT_S)
        self._stack.callback(child.kill)
        return child

    def output_of(self, command: str) -> str:
        """The output of a started command until now."""
        return self._log_of(command).read_text(encoding="utf-8", errors="replace")

    def _log_of(self, command: str) -> Path:
        return self.folder / f"{re.sub(r'[^a-z]+', '-', command)[:100]}.log"


def why_no_answer(port: int) -> str | None:
    with socket.socket() as probe:
        return None if probe.connect_ex(("127.0.0.1", port)) == 0 else f"nothing listens at {port}"


def why_not_ready(ops: int) -> str | None:
    try:
        status, reason = get(ops, "/readyz", 5.0)
    except (OSError, HTTPException) as error:
        return str(error)
    return None if status == HTTPStatus.OK else reason
