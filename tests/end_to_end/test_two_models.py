"""One broken model beside a good one, on the same server."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.processes.model_server import ModelServerProcess
from tests.end_to_end.conftest import System, request
from tests.end_to_end.test_foreign_model import DOCUMENT

pytestmark = [pytest.mark.kafka, pytest.mark.tensorflow, pytest.mark.slow]


def test_a_model_with_impossible_scores_affects_no_other_model(
    make_system: Callable[[str], System], model_base: Path, tmp_path: Path
) -> None:
    (text,) = re.findall(r"```yaml\n(# my-model.yaml\n.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    spec = tmp_path / "cvr.yaml"
    spec.write_text(text, encoding="utf-8")
    shutil.copytree(model_base / "1", tmp_path / "ctr" / "1")
    command = ["-m", "tests.end_to_end.foreign_model", str(tmp_path / "cvr" / "1")]
    subprocess.run([sys.executable, *command], check=True, timeout=600)
    config = tmp_path / "models.config"
    entries = [
        f'config {{ name: "{name}" base_path: "{tmp_path / name}" model_platform: "tensorflow" }}'
        for name in ("ctr", "cvr")
    ]
    config.write_text(f"model_config_list {{ {' '.join(entries)} }}", encoding="utf-8")
    # Its scores grow with the bid, without a limit.
    impossible = [{"ad_id": "a", "bid": 1e6}]
    with ModelServerProcess(config=config, log_path=tmp_path / "server.log") as server:
        system = make_system(server.address)
        with system.scorer(
            cache__enabled=False, predictor__models=["ctr", "cvr"], predictor__spec_files={"cvr": str(spec)}
        ) as scorer:
            values = []
            for i in range(20):
                values += [request(f"cvr-{i}-{k}", model="cvr", candidates=impossible) for k in range(4)]
                values.append(request(f"ctr-{i}", model="ctr"))
            system.send(values)
            answers = system.answers(len(values))
            is_open = [scorer.metric("streamer_predictor_circuit_open", model=name) for name in ("ctr", "cvr")]
            invalid = scorer.metric("streamer_predictor_invalid_scores_total", model="cvr", reason="out_of_range")
            assert scorer.stop() == 0
        log = scorer.log_tail()
    good, broken = ([a for r, a in answers.items() if name in r] for name in ("ctr", "cvr"))
    assert len(good) == 20
    assert {(answer["status"], answer["model"]["name"]) for answer in good} == {("ok", "ctr")}
    assert {(answer["status"], answer["model"]["name"]) for answer in broken} == {("fallback", "cvr")}
    assert is_open == [0, 1]
    assert invalid >= 5
    assert "circuit open" in log
    assert "cvr/1" in log
