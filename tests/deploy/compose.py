"""The project's compose file as Docker Compose itself reads it (no engine is needed for that)."""

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
    """Path of a console script, this environment's own first.

    Raises:
        FileNotFoundError: It is nowhere; `pip install -e .[dev]` brings every one that the tests use.
    """
    own = Path(sys.executable).parent / name
    found = str(own) if own.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: pip install -e .[dev]")
    return found


def compose(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Docker Compose on `file` as if it lay in the repository's root, with no variable of the caller's set."""
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
