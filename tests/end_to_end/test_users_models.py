"""Models as users of TensorFlow and Keras export them, with the spec files of docs/bring-your-own-model.md."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from sandbox.processes.model_server import ModelServerProcess
from tests.end_to_end.conftest import System
from tests.end_to_end.test_foreign_model import DOCUMENT
from tests.end_to_end.users_requests import REQUESTS, WORDS

pytestmark = [pytest.mark.kafka, pytest.mark.tensorflow, pytest.mark.slow]

SPECS = dict(re.findall(r"```yaml\n# ([\w-]+)\.yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL))
MODELS = [name for name in SPECS if name not in {"my-model", "streamer"}]


def streamer(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamer", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_scores_through_kafka_are_those_of_the_model(make_system: Callable[[str], System], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.end_to_end.users_models", str(tmp_path)]
    subprocess.run(command, check=True, timeout=600)
    expected = json.loads((tmp_path / "expected.json").read_text())
    assert sorted(expected) == sorted(MODELS)
    for name in MODELS:
        (tmp_path / f"{name}.yaml").write_text(SPECS[name], encoding="utf-8")
    (tmp_path / "words.txt").write_text("\n".join(WORDS), encoding="utf-8")
    config = tmp_path / "models.config"
    entries = (f'config {{ name: "{n}" base_path: "{tmp_path / n}" model_platform: "tensorflow" }}' for n in MODELS)
    config.write_text(f"model_config_list {{ {' '.join(entries)} }}", encoding="utf-8")
    specs = {name: str(tmp_path / f"{name}.yaml") for name in MODELS}
    with ModelServerProcess(config=config, log_path=tmp_path / "server.log") as server:
        system = make_system(server.address)
        # Without the cache: each answer is the model's.
        with system.scorer(predictor__models=MODELS, predictor__spec_files=specs, cache__enabled=False) as scorer:
            for name in MODELS:
                system.send([
                    orjson.dumps({**request, "request_id": f"{name} {request['request_id']}", "model": name})
                    for request in REQUESTS
                ])  # fmt: skip
            answers = system.answers(len(MODELS) * len(REQUESTS))
            assert scorer.stop() == 0
        for name in MODELS:
            parts = [answers[f"{name} {request['request_id']}"] for request in REQUESTS]
            assert [part["status"] for part in parts] == ["ok"] * len(parts), parts
            assert [ctr for part in parts for ctr in part["ctr"]] == pytest.approx(expected[name], abs=1e-6)
        _check_commands(system, server.address, specs, tmp_path)


def _check_commands(system: System, address: str, specs: dict[str, str], folder: Path) -> None:
    """`spec init` writes a file that says what to complete; `check-config --live` accepts the documented ones."""
    settings = folder / "streamer.yaml"
    document: dict[str, dict[str, Any]] = {}
    for name, value in system.settings.items():
        section, key = name.split(".")
        document.setdefault(section, {})[key] = value
    document["predictor"] |= {"models": MODELS, "spec_files": specs}
    settings.write_text(yaml.safe_dump(document))
    found = streamer("check-config", "--live", "--config", str(settings))
    assert found.returncode == 0, found.stderr
    assert all(f"model {name}: versions 1; spec {name}" in found.stdout for name in MODELS)
    written = streamer("spec", "init", "--from-model", f"{address}/two-tower")
    assert written.returncode == 0, written.stderr
    Path(specs["two-tower"]).write_text(written.stdout)
    found = streamer("check-config", "--live", "--config", str(settings))
    assert found.returncode == 2
    assert "two-tower.yaml: complete this: path of category, side of category" in found.stderr
    # An Example without a value that the model's parser needs.
    path = Path(specs["estimator-style"])
    path.write_text(SPECS["estimator-style"].replace(", default: 1.5", ""))
    found = streamer("check-config", "--live", "--config", str(settings))
    assert found.returncode == 2
    assert "Feature: bid (data type: float) is required but could not be found" in found.stderr
    assert "Traceback" not in found.stderr
