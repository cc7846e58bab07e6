"""Every command that the compose file gives to our own images is one that this project understands."""

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
        # Wide and plain, so that a help page cuts no option in two.
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


def test_ours_are_the_services_that_are_built_here(services: dict[str, Compose]) -> None:
    assert {name for name, service in services.items() if "build" in service} == set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_the_console_script_is_the_projects(services: dict[str, Compose], name: str) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert services[name]["command"][0] in scripts


@pytest.mark.parametrize("name", OURS)
def test_the_command_and_its_options_exist(services: dict[str, Compose], name: str) -> None:
    command: list[str] = services[name]["command"]
    words = list(takewhile(lambda word: not word.startswith("--"), command))
    result = run(*words, "--help")
    assert result.returncode == 0, result.stderr
    assert [word for word in command if word.startswith("--") and word not in result.stdout] == []


@pytest.mark.parametrize("name", ["topics", "streamer"])
def test_the_settings_accept_the_environment(services: dict[str, Compose], name: str) -> None:
    """Unknown settings are refused, so this also finds a misspelt variable."""
    result = run(
        "streamer", "check-config", "--config", "configs/streamer.yaml", environment=services[name]["environment"]
    )
    assert result.returncode == 0, result.stdout + result.stderr
