"""The program `model-training`: its version, JSON, and one line for each error."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from model_training.commands import app
from model_training.commands.output import fail_clearly
from streamer.distribution import installed_version

WITHOUT_JSON = {"label": "prints a line", "init": "prints a line", "reproduce": "its exit status says it"}
"""Commands that print no table, and what they do instead."""
EXTRA = "pip install 'ctr-streamer[training]'"
FAULTS = (
    ("prepare --config none --output out", "none: cannot be read"),
    ("prepare --config bad.yaml --output out", "bad.yaml: cannot be read"),
    ("collisions none", "none/collisions.json: does not exist"),
    ("train", "--log or --prepared: exactly one is needed"),
    ("train --log none --spec none", "none: cannot be read"),
    ("train --log none --config bad.yaml", "bad.yaml: cannot be read"),
    ("launch --log none --config none", "none: cannot be read"),
    ("placement --config none", "none: cannot be read"),
    ("evaluate none --log none --gate none", "none: cannot be read"),
    ("publish none --to none --log none --label stable", "--label and --model-config must be used together"),
    ("show none", "none: is no version (not a folder), and holds none"),
    ("reproduce none --log none", "none: is no version (not a folder), and holds none"),
    ("init --export-to out --spec none", "none: cannot be read"),
)
SLOW_FAULTS = (
    ("train --log none", "none: cannot be read"),
    ("train --log .", ".: cannot be read"),
    ("train --prepared none", "none/manifest.json: cannot be read"),
    ("evaluate none --log log.jsonl", "none: cannot be loaded"),
    ("label stable 3 --to none --model-config bad.yaml", "bad.yaml: not a model config of TensorFlow Serving"),
    ("init --export-to log.jsonl/x", "log.jsonl/x/1: cannot be written: Not a directory"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with files that are wrong, and the configs of the project; the current one during the test."""
    (tmp_path / "bad.yaml").write_text("a: [")
    (tmp_path / "log.jsonl").write_text('{"timestamp_ms": 0, "request": {}, "candidates": [], "clicked": []}\n')
    (tmp_path / "configs").symlink_to(Path("configs").resolve())
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})


def test_the_version_is_printed() -> None:
    assert run("--version").stdout == f"ctr-streamer {installed_version()}\n"


@pytest.mark.parametrize(
    ("command", "line"),
    [*FAULTS, *(pytest.param(*each, marks=[pytest.mark.slow, pytest.mark.tensorflow]) for each in SLOW_FAULTS)],
)
def test_a_fault_is_one_line(command: str, line: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # The console of errors has the standard error of the process.
    found = run(*command.split())
    errors = (found.stderr + capfd.readouterr().err).splitlines()
    assert (found.exit_code, len(errors)) == (2, 1), errors
    assert errors[0].startswith(f"error: {line}")


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("placement", "tensorflow"),
        ("init --export-to out", "tensorflow"),
        ("label stable 3 --to out --model-config out", "tensorflow"),
        ("prepare --config configs/prepare/avazu.yaml --output out", "pyspark"),
    ],
)
def test_a_missing_extra_is_one_line(
    command: str, module: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("model_training.preparation")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    found = run(*command.split())
    assert found.exit_code == 2
    assert found.stderr + capfd.readouterr().err == f"error: {module} is not installed: {EXTRA}\n"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (PermissionError(13, "Permission denied", "/x/[y]"), 2, "/x/[y]: Permission denied"),
        (ConnectionResetError("peer"), 1, "peer"),
        (TimeoutError(), 1, "TimeoutError()"),
    ],
)
def test_an_error_that_no_command_expects_is_one_line(
    error: OSError, status: int, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Status 1 where a restart may help: a launcher ends all processes at status 2."""

    def fail() -> None:
        with fail_clearly():
            raise error

    with pytest.raises(typer.Exit) as exited:
        fail()
    assert exited.value.exit_code == status
    assert capfd.readouterr().err == f"error: {line}\n"


def test_every_command_that_prints_tables_prints_json() -> None:
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    found = {name for name, command in commands.items() if not any("--json" in each.opts for each in command.params)}
    assert found == set(WITHOUT_JSON)


def test_all_other_output_of_a_command_with_json_goes_to_standard_error(folder: Path) -> None:
    (folder / "collisions.json").write_text("{}")
    assert run("collisions", ".").stdout.splitlines()[1].startswith("┃ feature")
    assert json.loads(run("collisions", ".", "--json").stdout) == {}
    assert run("collisions", ".").stdout != "", "the next command writes to standard output again"


@pytest.mark.tensorflow
@pytest.mark.slow
def test_the_placement_is_printed_as_json() -> None:
    found = json.loads(run("placement", "--json").stdout)["placements"]
    assert [(each["placement"], len(each["bytes"])) for each in found] == [("in turn", 2), ("greedy", 2)] * 2
    assert all(each["imbalance"] >= 1 for each in found)
