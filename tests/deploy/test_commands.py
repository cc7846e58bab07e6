"""Every command that the compose file gives to our own images is a command of this project."""

import os
import subprocess
import tomllib
from itertools import takewhile

import pytest

from tests.deploy.compose import ROOT, TIMEOUT_S, Compose, script

OURS = ["topics", "model", "streamer", "traffic"]


def run(*command: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script(command[0]), *command[1:]],
        cwd=ROOT,
        # Wide and plain, so that a help page does not split an option.
        env={
            **os.environ,
            "COLUMNS": "200",
            "TERM": "dumb",
            "_TYPER_FORCE_DISABLE_TERMINAL": "1",
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_our_images_are_those_that_are_built_here(services: dict[str, Compose]) -> None:
    assert {name for name, service in services.items() if "build" in service} == set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_the_command_belongs_to_the_project(services: dict[str, Compose], name: str) -> None:
    """It is a console script of the wheel, or `python -m sandbox` of the sandbox's image."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    command = services[name]["command"]
    assert command[0] in scripts or command[:3] == ["python", "-m", "sandbox"]


@pytest.mark.parametrize("name", OURS)
def test_the_command_and_its_options_exist(services: dict[str, Compose], name: str) -> None:
    command: list[str] = services[name]["command"]
    words = list(takewhile(lambda word: not word.startswith("--"), command))
    result = run(*words, "--help")
    assert result.returncode == 0, result.stderr
    assert [word for word in command if word.startswith("--") and word not in result.stdout] == []


@pytest.mark.parametrize("name", ["topics", "streamer"])
def test_the_settings_accept_the_environment(services: dict[str, Compose], name: str) -> None:
    """Unknown settings are rejected, so this also finds a misspelt variable."""
    result = run(
        "streamer",
        "check-config",
        "--config",
        "configs/streamer.yaml",
        # A variable without a value is that of the shell.
        environment={name: text for name, text in services[name]["environment"].items() if text is not None},
    )
    assert result.returncode == 0, result.stdout + result.stderr
