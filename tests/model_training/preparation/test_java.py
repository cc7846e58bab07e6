"""What Spark needs of the machine: one line says what is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_training.commands import app
from model_training.errors import ConfigError
from model_training.preparation.java import check_java
from tests.model_training.preparation.conftest import TABLE_SOURCE, write_config, write_log

UNNAMED_USER = 54321


@pytest.fixture
def java_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "java"))
    return tmp_path / "java"


def install(home: Path, version: str) -> None:
    """A Java that only tells its version."""
    (home / "bin").mkdir(parents=True)
    java = home / "bin/java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-09-16' >&2\n")
    java.chmod(0o755)


@pytest.mark.parametrize("version", ["17.0.15", "21.0.1", "22"])
def test_a_java_that_spark_runs_on(java_home: Path, version: str) -> None:
    install(java_home, version)
    check_java()


@pytest.mark.parametrize(("version", "major"), [("25", "25"), ("23.0.1", "23"), ("11.0.2", "11"), ("1.8.0_402", "8")])
def test_a_java_that_spark_does_not_run_on(java_home: Path, version: str, major: str) -> None:
    install(java_home, version)
    with pytest.raises(ConfigError, match=rf"needs Java 17 to 22, and {java_home}/bin/java .* is version {major};"):
        check_java()


def test_no_java(java_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"of JAVA_HOME\) cannot be started: .*No such file"):
        check_java()
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(java_home))
    with pytest.raises(ConfigError, match="there is no `java` on PATH and no JAVA_HOME"):
        check_java()


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: UNNAMED_USER)
    with pytest.raises(ConfigError, match=f"user id {UNNAMED_USER} has none"):
        check_java()


@pytest.mark.tensorflow
def test_the_command_says_it_in_one_line(java_home: Path, tmp_path: Path) -> None:
    install(java_home, "25")
    write_log(tmp_path / "log.jsonl")
    config = write_config(tmp_path, TABLE_SOURCE | {"paths": [str(tmp_path / "log.jsonl")]})
    done = CliRunner().invoke(app, ["prepare", "--config", str(config), "--output", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert "is version 25" in done.stderr


@pytest.mark.slow
def test_a_master_that_spark_does_not_know(tmp_path: Path) -> None:
    write_log(tmp_path / "log.jsonl")
    config = write_config(tmp_path, TABLE_SOURCE | {"paths": [str(tmp_path / "log.jsonl")]})
    arguments = ["prepare", "--config", str(config), "--output", str(tmp_path / "out"), "--master", "unknown"]
    command = [sys.executable, "-m", "model_training", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: Spark cannot start: ")
