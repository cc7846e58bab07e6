"""Reads the worked examples of CONTRIBUTING.md and applies them to a copy of the repository.

A fenced block follows a paragraph that ends with the path of its file. `python` and `yaml` blocks are whole new files,
`diff` blocks are edits, `sh` blocks are commands. In a diff, `@@` separates edits; a context line that ends with "…"
matches every line that begins so.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 300
_SECTION = re.compile(r"^## (Add [^\n]+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"(?:`([^`\n]+)`:\n\n)?```(python|yaml|diff|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_COPIED = (".venv", ".git", "build", "dist", "target", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its kind, its text, and the file that it is about, if any."""

    kind: str
    text: str
    path: str


def worked_examples() -> dict[str, list[Block]]:
    """The blocks of each section "Add …", by its heading."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return {
        section[1]: [Block(kind, text, path) for path, kind, text in _BLOCK.findall(section[2])]
        for section in _SECTION.finditer(page)
    }


def copy_of_the_repository(to: Path) -> Path:
    """Copies what a checkout has, and the files that are not committed yet."""
    return shutil.copytree(ROOT, to, ignore=shutil.ignore_patterns(*_NOT_COPIED))


def apply(block: Block, root: Path) -> None:
    """Writes the new file of `block`, or changes the file that it edits.

    Raises:
        ValueError: the file already exists, or an edit does not fit in exactly one place.
    """
    path = root / block.path
    if block.kind == "diff":
        content = path.read_text(encoding="utf-8")
        for edit in block.text.split("@@\n"):
            content = edited(content, edit)
        path.write_text(content, encoding="utf-8")
        return
    if path.exists():
        raise ValueError(f"{block.path}: exists already")
    path.write_text(block.text, encoding="utf-8")


def edited(content: str, edit: str) -> str:
    """`content` after one edit; its lines start with " " (context), "-" or "+".

    Lines with "-" are removed, and lines with "+" are added.

    Raises:
        ValueError: context and removed lines stand together nowhere, or more than once.
    """
    lines, changes = content.splitlines(), edit.splitlines()
    old = [change[1:] for change in changes if not change.startswith("+")]
    places = [at for at in range(len(lines) - len(old) + 1) if _fits(lines[at : at + len(old)], old)]
    if len(places) != 1:
        raise ValueError(f"{len(places)} places instead of one for:\n{edit}")
    at = places[0]
    new: list[str] = []
    for change in changes:
        if change.startswith("+"):
            new.append(change[1:])
            continue
        if not change.startswith("-"):
            new.append(lines[at])
        at += 1
    return "\n".join([*lines[: places[0]], *new, *lines[at:]]) + "\n"


def run(command: str, root: Path) -> subprocess.CompletedProcess[str]:
    """Runs a shell command in the copy `root`, with its packages and these programs."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    return subprocess.run(
        ["bash", "-c", command],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def _fits(lines: Sequence[str], old: Sequence[str]) -> bool:
    return all(
        line.startswith(pattern[:-1]) if pattern.endswith("…") else line == pattern
        for line, pattern in zip(lines, old, strict=True)
    )
