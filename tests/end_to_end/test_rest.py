"""The scorer over REST: the scores of gRPC, on the program that serves the models."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sandbox.host.ports import free_ports
from sandbox.processes.model_server import ModelServerProcess
from streamer.codec import Codec
from streamer.errors import PredictError, VersionGoneError
from streamer.features import Encoder, FeatureSpec
from streamer.metrics import Metrics
from streamer.serving.predictor import Predictor
from streamer.settings import Settings
from streamer.settings.sections import PredictorSettings
from streamer.types import BadRecord, BatchInputs, ModelVersion
from tests.end_to_end.conftest import System, request
from tests.model_training.conftest import SPEC

pytestmark = [pytest.mark.kafka, pytest.mark.tensorflow]
V = ModelVersion("ctr", 1)
LONG = 300.0


def encoded(rows: int) -> BatchInputs:
    spec = FeatureSpec.from_mapping(SPEC)
    codec = Codec(Settings().codec, spec.request, spec.document_keys, spec.containers, spec.deadline_margin_ms)
    found = codec.decode(request("r", [f"ad{i}" for i in range(rows)]), ())
    assert not isinstance(found, BadRecord)
    return BatchInputs.whole(Encoder(spec).encode(found))


async def test_both_protocols_give_the_same_scores_specs_and_versions(model_server: ModelServerProcess) -> None:
    rows, seen = encoded(700), []
    for settings in (
        PredictorSettings(addresses=(model_server.address,)),
        PredictorSettings(protocol="rest", addresses=(model_server.rest_address,)),
    ):
        predictor = Predictor(settings, Metrics())
        control = predictor.control
        try:
            versions = await control.available("ctr")
            ctr = await predictor.score(V, rows, LONG)
            spec, signature = await control.feature_spec(V), await control.signature(V, "score")
            with pytest.raises(VersionGoneError) as gone:
                await predictor.score(ModelVersion("ctr", 9), rows, LONG)
            with pytest.raises(PredictError) as unlabelled:
                await control.labelled("ctr", "stable")
        finally:
            await predictor.close()
        assert versions.somewhere == {1}
        seen.append((ctr.tobytes(), spec, signature, str(gone.value), str(unlabelled.value)))
    assert len(np.unique(np.frombuffer(seen[0][0], np.float32))) > 100, "different rows have different scores"
    assert seen[0] == seen[1]


def test_a_scorer_over_rest_answers_requests(system: System, model_server: ModelServerProcess) -> None:
    with system.scorer(predictor__protocol="rest", predictor__addresses=[model_server.rest_address]):
        system.send([request("r", [f"ad{i}" for i in range(50)])])
        answer = system.answers(1)["r"]
    assert answer["status"] == "ok"
    assert set(answer["source"]) == {"model"}
    assert answer["model"] == {"name": "ctr", "version": 1}


@pytest.mark.slow
def test_check_config_asks_over_rest(system: System, model_server: ModelServerProcess, tmp_path: Path) -> None:
    config = tmp_path / "streamer.yaml"
    topics = {"topic": system.scores, "dead_letter_topic": system.dead_letters}

    def checked(address: str) -> subprocess.CompletedProcess[str]:
        config.write_text(
            json.dumps(
                {
                    "kafka": {"bootstrap_servers": system.bootstrap},
                    "source": {"topic": system.requests},
                    "sink": {**topics, "shadow_topic": system.shadow_scores, "feature_log_topic": system.feature_log},
                    "predictor": {"protocol": "rest", "addresses": [address]},
                }
            )
        )
        command = [sys.executable, "-m", "streamer", "check-config", "--live", "--config", str(config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    accepted = checked(model_server.rest_address)
    assert (accepted.returncode, accepted.stderr) == (0, "")
    assert "model ctr: versions 1; spec small" in accepted.stdout
    rejected = checked(model_server.address)
    assert rejected.returncode == 2
    assert f"{model_server.address} speaks HTTP/2, as gRPC ports do" in rejected.stderr
    assert "name the REST port (default 8501)" in rejected.stderr


@pytest.mark.slow
def test_a_version_that_vanishes_and_a_server_that_restarts(
    make_system: Callable[[str], System], model_base: Path, tmp_path: Path
) -> None:
    base = tmp_path / "ctr"
    for version in ("1", "2"):
        shutil.copytree(model_base / "1", base / version)
    flags = {"file_system_poll_wait_seconds": 1}
    with ModelServerProcess(
        base, "ctr", rest_port=free_ports(1)[0], log_path=tmp_path / "server.log", flags=flags
    ) as server:
        system = make_system(server.rest_address)
        with system.scorer(predictor__protocol="rest", cache__enabled=False, predictor__poll_interval_ms=200):
            n = 0

            def until(status: str, version: int) -> None:
                nonlocal n
                answer: Any = None
                for _ in range(600):
                    system.send([request(f"r{n}", deadline_ms=20_000)])
                    n += 1
                    answer = system.answers(n)[f"r{n - 1}"]
                    if (answer["status"], answer["model"]["version"]) == (status, version):
                        return
                raise AssertionError(f"no {status} of version {version}, but {answer}")

            until("ok", 2)
            (base / "1").rename(base / "3")
            shutil.rmtree(base / "2")
            until("ok", 3)
            server.kill()
            until("fallback", 3)
            server.start()
            until("ok", 3)
