"""`streamer run` with a fake service."""

import gc
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamer.commands import app, main
from streamer.service import Service


@pytest.fixture
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_thawed")
@pytest.mark.parametrize(("is_clean", "status"), [(True, 0), (False, 1)])
def test_imported_modules_are_excluded_from_garbage_collection(
    monkeypatch: pytest.MonkeyPatch, is_clean: bool, status: int
) -> None:
    frozen = []

    async def run(_: Service) -> bool:
        frozen.append(gc.get_freeze_count())
        return is_clean

    monkeypatch.setattr(Service, "run", run)
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)
    assert CliRunner().invoke(app, ["run"]).exit_code == status
    assert os.environ["GRPC_VERBOSITY"] == "NONE"
    assert frozen[0] > 10_000


@pytest.mark.usefixtures("_thawed")
def test_a_defect_of_a_service_leaves_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(_: Service) -> bool:
        raise TimeoutError

    monkeypatch.setattr(Service, "run", run)
    monkeypatch.setattr(sys, "argv", ["streamer", "run"])
    with pytest.raises(TimeoutError):
        main()


def test_a_worker_whose_supervisor_ended_before_it_had_started_does_not_wait_for_a_model_server(tmp_path: Path) -> None:
    supervisor, worker = socket.socketpair()
    supervisor.close()
    with worker:
        link = {"STREAMER_SUPERVISOR__LINK": str(worker.fileno()), "STREAMER_OPS__SOCKET": str(tmp_path / "socket")}
        command = [sys.executable, "-X", "importtime", "-m", "streamer", "run"]
        done = subprocess.run(
            command,
            env={**os.environ, **link},
            pass_fds=[worker.fileno()],
            timeout=60,
            capture_output=True,
            check=False,
        )
    assert done.returncode == 1
    assert b"the supervisor has ended" in done.stdout + done.stderr
    assert b"structlog.dev" in done.stderr
    assert b"rich.console" not in done.stderr, (
        "a worker takes 4 MB more with rich: import it in the function that uses it"
    )
