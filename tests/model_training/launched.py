"""Whole runs of `model-training launch` in their own processes."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.model_training.conftest import SPEC

WAIT_SECONDS = 900


def write_config(folder: Path, **settings: object) -> Path:
    """A config beside its spec."""
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC), encoding="utf-8")
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump({"spec": "spec.yaml", **settings}), encoding="utf-8")
    return path


@contextmanager
def launched(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A launcher; it is terminated if the test does not wait for its end."""
    command = [sys.executable, "-m", "model_training", "launch", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=60)
        if process.stdout is not None:
            process.stdout.close()


def until(process: subprocess.Popen[str], pattern: str, said: list[str]) -> re.Match[str]:
    """Reads until the first line with `pattern`."""
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if found := re.search(pattern, line):
            return found
    pytest.fail(f"ended without {pattern!r}:\n{''.join(said)}")


def pids(launcher: int, role: str = "") -> list[int]:
    """The launcher's child processes with `role`, by default all, in order of their start."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return [int(c) for c in children if f'"type": "{role}' in Path(f"/proc/{c}/environ").read_text()]
