"""The README's "Your own data in ten minutes" works as it is written."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

import pytest

from sandbox.host.loopback import get
from sandbox.host.ports import free_ports
from sandbox.processes.child import Child
from tests.docs.worked_examples import ROOT

PAGE = ROOT / "README.md"
HEADING = "Your own data in ten minutes"
_SECTION = re.compile(rf"^## {HEADING}\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^    ((?:python|streamer|model-training) .*)$", re.MULTILINE)
_SETTINGS = re.compile(r"`([^`\n]+)`:\n\n```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TIMEOUT_S = 300.0


class Shells:
    """Runs the commands of a person in one folder; those that do not end have a shell of their own."""

    def __init__(self, folder: Path, environment: dict[str, str], stack: ExitStack) -> None:
        self._folder, self._environment, self._stack = folder, environment, stack

    def run(self, command: str) -> str:
        """The output of a command that ends with status 0."""
        found = subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        assert found.returncode == 0, f"{command}\n{found.stdout}{found.stderr}"
        return found.stdout

    def start(self, command: str, why_not_ready: Callable[[], str | None]) -> None:
        """Starts a command, and waits until it is ready."""
        shell = ["bash", "-c", f"cd '{self._folder}' && exec {command}"]
        log = self._folder / f"{re.sub(r'[^a-z]+', '-', command[:30])}.log"
        child = Child(command, shell, log, environment=self._environment, error=AssertionError)
        child.start(why_not_ready, _TIMEOUT_S)
        self._stack.callback(child.kill)


def why_no_answer(port: int) -> str | None:
    with socket.socket() as probe:
        return None if probe.connect_ex(("127.0.0.1", port)) == 0 else f"nothing listens at {port}"


def why_not_ready(ops: int) -> str | None:
    try:
        status, reason = get(ops, "/readyz", 5.0)
    except (OSError, HTTPException) as error:
        return str(error)
    return None if status == HTTPStatus.OK else reason


@pytest.fixture
def shells(tmp_path: Path) -> Iterator[tuple[Shells, dict[str, int]]]:
    """The shells, and a free port for each of the page: other processes of this machine may have those."""
    kafka, models, ops = free_ports(3)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "STREAMER_OPS__PORT": str(ops),
        "COLUMNS": "200",
    }
    with ExitStack() as stack:
        yield Shells(tmp_path, environment, stack), {"9092": kafka, "8500": models, "9100": ops}


@pytest.mark.kafka
@pytest.mark.tensorflow
@pytest.mark.slow
def test_the_commands_of_the_page_lead_to_a_scored_request(
    shells: tuple[Shells, dict[str, int]], tmp_path: Path
) -> None:
    own, ports = shells
    section = _SECTION.search(PAGE.read_text(encoding="utf-8"))
    assert section is not None, f"{PAGE} has no section {HEADING!r}"
    text = section[1]
    for shown, free in ports.items():
        text = text.replace(shown, str(free))
    ready: dict[str, Callable[[], str | None]] = {
        "python -m sandbox.broker": lambda: why_no_answer(ports["9092"]),
        "python -m sandbox.model_server": lambda: why_no_answer(ports["8500"]),
        "streamer run": lambda: why_not_ready(ports["9100"]),
    }
    outputs: dict[str, str] = {}
    (settings,) = _SETTINGS.findall(text)
    for command in _COMMAND.findall(text):
        (tmp_path / settings[0]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / settings[0]).write_text(settings[1])
        background = next((name for name in ready if command.startswith(name)), None)
        if background is None:
            outputs[" ".join(command.split()[:2])] = own.run(command)
        else:
            own.start(command, ready[background])
    assert "wide_deep" in outputs["model-training train"]
    position, first, ads = outputs["streamer send"].splitlines()
    assert ": my-requests partition " in position
    assert re.match(r"r-\d+  ok  ctr/1  20 ads  scored in .* answered after \d+ ms of 500", first), first
    assert re.match(r"    ad-\d+ 0\.\d+ model, .*, 17 more", ads), ads
    assert outputs["streamer tail"].splitlines() == [first, ads]
