"""The project's compose file as Docker Compose reads it, which needs no engine."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
TIMEOUT_S = 300.0

Compose = dict[str, Any]
"""A compose project in the canonical form of `docker compose config --format json`."""


def script(name: str) -> str:
    """Path of a console script, first in this environment.

    Raises:
        FileNotFoundError: it is not installed; `make setup` installs all scripts that the tests use.
    """
    own = Path(sys.executable).parent / name
    found = str(own) if own.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: run `make setup`")
    return found


def compose(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Docker Compose on `file` as in the root of the repository, without our variables."""
    return subprocess.run(
        [script("docker-compose"), "--project-directory", str(ROOT), "--file", str(file), *arguments],
        env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(file.parent)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def canonical(file: Path) -> Compose:
    """The validated project: anchors, merges and short forms resolved, host paths absolute."""
    result = compose(file, "config", "--format", "json")
    assert result.returncode == 0, result.stderr
    project: Compose = json.loads(result.stdout)
    return project


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in the root of the repository; uv downloads no Python."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, "UV_PYTHON_DOWNLOADS": "never", **environment},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
