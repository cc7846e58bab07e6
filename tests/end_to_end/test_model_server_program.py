"""The scorer on the program that `MODEL_SERVER` names."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.processes.model_server import ModelServerProcess
from sandbox.processes.server_program import VARIABLE
from tests.end_to_end.conftest import System, request
from tests.sandbox.processes.wrapper import VERSION, wrapper

pytestmark = [pytest.mark.kafka, pytest.mark.tensorflow, pytest.mark.slow]


def test_a_scorer_on_a_named_program_survives_its_end_and_a_new_version(
    make_system: Callable[[str], System], model_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(wrapper(tmp_path)))
    base = tmp_path / "ctr"
    shutil.copytree(model_base, base)
    with ModelServerProcess(base, "ctr", log_path=tmp_path / "server.log") as server:
        assert server.version == VERSION
        system = make_system(server.address)
        with system.scorer(cache__enabled=False, predictor__poll_interval_ms=200, rollout__ramp_s=0.0):
            system.send([request("before")])
            assert system.answers(1)["before"]["status"] == "ok"
            server.stop()
            shutil.copytree(base / "1", base / "2")
            server.start()
            sent = 1
            while True:
                system.send([request(f"after {sent}", deadline_ms=20_000)])
                sent += 1
                answer = system.answers(sent)[f"after {sent - 1}"]
                if answer["status"] == "ok" and answer["model"]["version"] == 2:
                    break
                assert sent < 600, f"version 2 never scored: {answer}"
    assert (tmp_path / "arguments").read_text(encoding="utf-8").startswith(f"--port={server.port}\n")
    assert "unknown argument" not in (tmp_path / "server.log").read_text(encoding="utf-8")
