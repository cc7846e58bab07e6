"""`MODEL_SERVER` and the PATH select the program that serves models."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sandbox.host.ports import free_ports
from sandbox.processes.model_server import ModelServerError, ModelServerProcess
from sandbox.processes.server_program import STAND_IN, VARIABLE, ServerProgramError, server_program
from tests.conftest import pytest_report_header
from tests.sandbox.processes.wrapper import VERSION, wrapper

_LISTENS = """
import socket, sys, time
flags = dict(argument[2:].split("=", 1) for argument in sys.argv[1:])
held = [socket.create_server(("127.0.0.1", int(flags[name]))) for name in ("port", "rest_api_port")]
time.sleep(600)
"""


@pytest.fixture
def listens(tmp_path: Path) -> Path:
    """A binary that only opens its two ports."""
    program = tmp_path / "listens.py"
    program.write_text(_LISTENS, encoding="utf-8")
    return wrapper(tmp_path, f"-S '{program}'")


def test_the_binary_that_the_variable_or_the_path_names_is_used(tmp_path: Path) -> None:
    binary = wrapper(tmp_path)
    on_path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    for environment in ({VARIABLE: str(binary)}, on_path, {VARIABLE: binary.name, **on_path}):
        program = server_program(environment)
        assert (program.command, program.version) == ((str(binary),), VERSION)
    for environment in ({"PATH": "/usr/bin:/bin"}, {VARIABLE: "", **on_path}, {VARIABLE: STAND_IN, **on_path}):
        program = server_program(environment)
        assert (program.command[1:], program.version) == (("-m", "sandbox.model_server"), STAND_IN)


def test_the_command_of_the_stand_in_is_not_taken_for_the_binary(tmp_path: Path) -> None:
    command = Path(__file__).parents[3] / "sandbox" / "bin" / "tensorflow_model_server"
    program = server_program({"PATH": f"{command.parent}:/usr/bin:/bin"})
    assert (program.command, program.version) == ((str(command),), STAND_IN)
    (link := tmp_path / "server").symlink_to(command)
    for module in ("sandbox", "google", "grpc"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('a module of the caller')\n", encoding="utf-8")
    answer = subprocess.run([link, "--help"], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert (answer.returncode, answer.stdout.partition("\n")[0]) == (255, "usage: tensorflow_model_server")


def test_a_wrong_variable_is_one_line(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program", encoding="utf-8")
    fails = tmp_path / "fails"
    fails.write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    fails.chmod(0o755)
    for path, reason in (
        (tmp_path / "none", f"MODEL_SERVER={tmp_path / 'none'}: the file does not exist"),
        (plain, f"MODEL_SERVER={plain}: the file is not executable"),
        (fails, f"{fails} --version: "),
    ):
        with pytest.raises(ServerProgramError) as rejected:
            server_program({VARIABLE: str(path)})
        text = str(rejected.value)
        assert text.startswith(reason)
        assert text.endswith("give the path of tensorflow_model_server, or MODEL_SERVER=stand-in")
        assert "\n" not in text


def test_the_header_of_a_run_names_the_server_or_the_wrong_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(wrapper(tmp_path)))
    assert pytest_report_header()[0] == f"model server: {VERSION}"
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    with pytest.raises(pytest.UsageError, match="MODEL_SERVER="):
        pytest_report_header()


def test_make_passes_the_variable_on(tmp_path: Path) -> None:
    """A demo with a wrong path ends before its first step."""
    missing = tmp_path / "none"
    command = ["make", "-s", "demo", f"{VARIABLE}={missing}", f"BIN={sys.prefix}/bin", "READY="]
    ended = subprocess.run(command, cwd=Path(__file__).parents[3], check=False, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stdout.startswith(f"demo: MODEL_SERVER={missing}: the file does not exist; ")
    assert ended.stdout.count("\n") == 1


def test_a_server_gets_flags_of_the_binary_and_ends_by_the_signal(
    listens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(listens))
    (rest_port,) = free_ports(1)
    flags = {"enable_model_warmup": False}
    server = ModelServerProcess(tmp_path, "ctr", rest_port=rest_port, flags=flags, log_path=tmp_path / "log")
    with server:
        assert server.version == VERSION
        assert (tmp_path / "arguments").read_text(encoding="utf-8").splitlines() == [
            f"--port={server.port}",
            f"--rest_api_port={rest_port}",
            "--model_name=ctr",
            f"--model_base_path={tmp_path}",
            "--grpc_max_threads=64",
            "--enable_model_warmup=false",
        ]
        second = ModelServerProcess(tmp_path, port=server.port, log_path=tmp_path / "second")
        with pytest.raises(ModelServerError, match=f"port {server.port} of the model server is in use"):
            second.start()
        assert server.stop() == -signal.SIGTERM
        server.start()


def test_a_server_ends_with_its_parent(listens: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from sandbox.processes.model_server import ModelServerProcess as P\n"
        f"p = P({str(tmp_path)!r}, rest_port={free_ports(1)[0]}, log_path={str(tmp_path / 'log')!r}); p.start()\n"
        "p.pause(); print(p.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={VARIABLE: str(listens), "PYTHONPATH": ":".join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        parent.wait()
        child.wait(30)
