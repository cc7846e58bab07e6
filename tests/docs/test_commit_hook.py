"""The commit-msg hook rejects long subjects and a body without a blank line before it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOOK = Path(__file__).parents[2] / ".githooks/commit-msg"


def _hook(message: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "COMMIT_EDITMSG"
    file.write_text(message, encoding="utf-8")
    return subprocess.run([sys.executable, HOOK, file], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "message",
    [
        "Add a stage\n",
        f"{'x' * 72}\n",
        f"{'é' * 72}\n",
        "Add a stage\n\nBecause scores must stay inside a range.\n",
        f"\n# {'a comment of git ' * 9}\nAdd a stage\n# On branch main\n",
        f"Merge branch '{'x' * 72}'\n",
        f"fixup! {'x' * 72}\n",
        "",
    ],
)
def test_good_messages_pass(message: str, tmp_path: Path) -> None:
    result = _hook(message, tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (f"{'x' * 73}\n", "the subject has 73 characters, at most 72 are allowed"),
        (f"# comment\n{'é' * 73}\n\nBody.\n", "the subject has 73 characters"),
        ("Add a stage\nBecause scores must stay inside a range.\n", "the second line must be blank"),
    ],
)
def test_bad_messages_are_rejected(message: str, reason: str, tmp_path: Path) -> None:
    result = _hook(message, tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("commit-msg: ")
    assert reason in result.stderr


def test_git_runs_it(tmp_path: Path) -> None:
    """As `make hooks` installs it: a link in the folder of hooks, which is executable."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        return subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    assert shutil.which("git"), "the project is a Git repository"
    assert git("init").returncode == 0
    hook = tmp_path / ".git/hooks/commit-msg"
    hook.parent.mkdir(exist_ok=True)
    hook.symlink_to(HOOK)
    assert git("commit", "--allow-empty", "-m", "x" * 73).returncode == 1
    assert git("commit", "--allow-empty", "-m", "x" * 72).returncode == 0
