"""The program `streamer`: its version, completion in bash, and one line for each error."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamer.commands import app, main
from streamer.distribution import installed_version
from tests.docs.worked_examples import ROOT

BIN = Path(sys.executable).parent


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"ctr-streamer {installed_version()}\n"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (
            ModuleNotFoundError("No module named 'opentelemetry'", name="opentelemetry.sdk"),
            2,
            "opentelemetry is not installed: pip install 'ctr-streamer[tracing]'",
        ),
        (PermissionError(13, "Permission denied", "/x/[y]"), 1, "/x/[y]: Permission denied"),
        (ConnectionResetError("peer"), 1, "peer"),
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
