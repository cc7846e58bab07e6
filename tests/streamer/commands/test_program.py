"""The program `streamer`: its version, completion in bash, and one line for each error."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from streamer import native
from streamer.commands import app, main
from streamer.distribution import installed_version
from tests.docs.worked_examples import ROOT

BIN = Path(sys.executable).parent
WITHOUT_JSON = {
    "run": "a service",
    "serve-http": "a service",
    "schema": "prints JSON",
    "spec init": "writes a file",
    "dlq replay": "prints a count",
    **dict.fromkeys(("model pin", "model canary", "model shadow", "model unpin", "model rollback"), "an order"),
}
"""Commands that print no table or list, and what they do instead."""
FAULTS = (
    "check-config --config none.yaml",
    "check-config --config .",
    "check-config --config bad.yaml",
    "check-config --config latin.yaml",
    "doctor --ops 127.0.0.1:1",
    "dlq list",
    "dlq show 0:1",
    "dlq replay --yes",
    "explain none.json",
    "explain request.json",
    "explain request.json --spec none.yaml",
    "explain request.json --spec bad.yaml",
    "explain --partition 0 --offset 3",
    "model list",
    "model pin 3 --ops nonsense",
    "run --config none.yaml",
    "run --config bad.yaml",
    "serve-http --config none.yaml",
    "schema request --spec none.yaml",
    "schema --to request.json",
    "send none.json",
    "send request.json --user-path context.x",
    "send request.json --wait",
    "send request.json --spec bad.yaml",
    "spec init --from-model 127.0.0.1:1/ctr",
    "spec init --from-sample .",
    "spec init --from-sample bad.yaml",
    "table show ads a",
    "table count",
    "table check --spec none.yaml",
    "table lag",
    "tail",
    "tail --spec none.yaml",
    "topics create",
)
"""Commands without brokers, model server and scorer, and with files that are missing or wrong."""
QUICK = {"check-config --config bad.yaml", "explain request.json --spec bad.yaml", "send request.json --wait", "tail"}


def commands_of(group: Any, outer: str = "") -> Iterator[tuple[str, Any]]:
    """Each command by its full name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, f"{outer}{name} ")
        else:
            yield f"{outer}{name}", command


def test_the_versions_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "state", "not installed")
    lines = CliRunner().invoke(app, ["--version"]).stdout.splitlines()
    assert lines == [f"ctr-streamer {installed_version()}", "ctr-streamer-native: not installed"]


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (
            ModuleNotFoundError("No module named 'opentelemetry'", name="opentelemetry.sdk"),
            2,
            "opentelemetry is not installed: pip install 'ctr-streamer[tracing]'",
        ),
        (PermissionError(13, "Permission denied", "/x/[y]"), 2, "/x/[y]: Permission denied"),
        (ConnectionResetError("peer"), 1, "peer"),
        (TimeoutError(), 1, "TimeoutError()"),
    ],
)
def test_an_error_is_a_line(
    error: Exception, status: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @app.command("fails")
    def fails() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["streamer", "fails"])
    try:
        with pytest.raises(SystemExit) as exited:
            main()
    finally:
        app.registered_commands.pop()
    assert exited.value.code == status
    assert capsys.readouterr().err == f"streamer: {line}\n"


def test_every_command_that_prints_tables_prints_json() -> None:
    found = {name for name, command in commands_of(get_command(app)) if not has_option(command, "--json")}
    assert found == set(WITHOUT_JSON)


def test_settings_are_printed_as_json() -> None:
    found = {
        each["name"]: each for each in json.loads(CliRunner().invoke(app, ["settings", "--json"]).stdout)["settings"]
    }
    assert found["source.deadline_from"] == {
        "name": "source.deadline_from",
        "variable": "STREAMER_SOURCE__DEADLINE_FROM",
        "default": "record",
        "description": "Start of a request's budget: the record's timestamp, or its receipt.",
        "allowed": ["record", "arrival"],
    }


def has_option(command: Any, name: str) -> bool:
    return any(name in parameter.opts for parameter in command.params)


@pytest.mark.parametrize(
    "command", [fault if fault in QUICK else pytest.param(fault, marks=pytest.mark.slow) for fault in FAULTS]
)
def test_a_fault_is_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text("a: [")
    Path("latin.yaml").write_bytes(b"a: \xe4")
    Path("request.json").write_text('{"request_id": "r", "context": {"x": "u"}, "candidates": [{"ad_id": "a"}]}')
    for name, value in {
        "KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "KAFKA__REQUEST_TIMEOUT_MS": "500",
        "PREDICTOR__ADDRESSES": "127.0.0.1:1",
        "PREDICTOR__CONTROL_TIMEOUT_MS": "500",
        "OPS__PORT": "1",
        "ADS__TOPIC": "ads" if command.startswith("table") else "null",
    }.items():
        monkeypatch.setenv(f"STREAMER_{name}", value)
    monkeypatch.setattr(sys, "argv", ["streamer", *command.split()])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code in (1, 2)
    lines = [line for line in capsys.readouterr().err.splitlines() if "no key" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("streamer: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "start", "command"), [("streamer", "to", "topics"), ("model-training", "pl", "placement")]
)
def test_bash_completes_commands(program: str, start: str, command: str, tmp_path: Path) -> None:
    """bash is the parent that typer detects, so the first command is not the last one of its shell."""
    script = f"""
        {program} --install-completion && . ~/.bashrc
        COMP_WORDS=({program} {start}) COMP_CWORD=1
        "$(complete -p {program} | sed 's/.*-F \\([^ ]*\\) .*/\\1/')" {program} && echo "completed: ${{COMPREPLY[*]}}"
    """
    environment = {"HOME": str(tmp_path), "PATH": f"{BIN}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert f"completed: {command}" in found.stdout.splitlines(), found
