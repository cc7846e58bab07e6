"""`streamer check-config --live` names contradictions to topics and model; exit status 2."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from sandbox.model_server.replies import metadata_reply
from streamer.features import FeatureSpec
from streamer.serving.protos import get_model_metadata_pb2, types_pb2
from tests.end_to_end.conftest import System
from tests.streamer.serving.model_servers import Server
from tests.streamer.specs import SMALL, small_spec

pytestmark = pytest.mark.kafka

SPEC = small_spec().to_json()


def signatures(change: Callable[[Any], None]) -> Any:
    """The signatures of the spec's model, with a change of `score`."""
    reply = metadata_reply(SPEC)
    found = get_model_metadata_pb2.SignatureDefMap()
    reply.metadata["signature_def"].Unpack(found)
    change(found.signature_def["score"])
    reply.metadata["signature_def"].Pack(found)
    return reply


def other_dtype(score: Any) -> None:
    score.inputs["candidate_ids"].dtype = types_pb2.DT_INT64


def other_shape(score: Any) -> None:
    score.inputs["pair_ids"].tensor_shape.dim[1].size += 1


def one_input_more(score: Any) -> None:
    score.inputs["weather"].dtype = types_pb2.DT_FLOAT


async def check(system: System, server: Server, tmp_path: Path, **more: object) -> subprocess.CompletedProcess[str]:
    """Runs `streamer check-config --live` against the system's broker and this server."""
    file = tmp_path / "streamer.yaml"
    document: dict[str, dict[str, object]] = {"predictor": {"addresses": [server.address]}}
    for name, value in {**system.settings, **more}.items():
        section, key = name.split(".")
        if name != "predictor.addresses":
            document.setdefault(section, {})[key] = value
    file.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "streamer", "check-config", "--live", "--config", str(file)]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=300, check=False)


async def test_topics_and_a_model_that_agree(make_system: Callable[[str], System], tmp_path: Path) -> None:
    async with Server(versions=(1, 4), spec=SPEC).running() as server:
        found = await check(make_system(server.address), server, tmp_path)
    assert found.returncode == 0, found.stderr
    assert "all topics are there" in found.stdout
    assert f"model ctr: versions 1, 4; spec small, hash {small_spec().hash}" in found.stdout


async def test_the_version_of_a_label_is_named(make_system: Callable[[str], System], tmp_path: Path) -> None:
    async with Server(versions=(1, 4), spec=SPEC, labels={"stable": 1}).running() as server:
        found = await check(make_system(server.address), server, tmp_path, **{"predictor.labels": {"ctr": "stable"}})
    assert found.returncode == 0, found.stderr
    assert "model ctr: versions 1, 4; label stable leads to 1; spec small" in found.stdout


@pytest.mark.parametrize(
    ("server", "settings", "message"),
    [
        (Server(spec=SPEC, signatures=signatures(other_dtype)), {}, "does not fit its feature spec in candidate_ids"),
        (Server(spec=SPEC, signatures=signatures(other_shape)), {}, "does not fit its feature spec in pair_ids"),
        (Server(spec=SPEC, signatures=signatures(one_input_more)), {}, "does not fit its feature spec in weather"),
        (Server(spec='{"name": "x"}', signatures=metadata_reply(SPEC)), {}, "predictor: spec of ctr/3"),
        (Server(spec=SPEC, versions=()), {}, "no version of 'ctr' is AVAILABLE"),
        (Server(spec=SPEC), {"predictor.labels": {"ctr": "new"}}, "Unrecognized servable version label: new"),
        (Server(spec=SPEC), {"sink.topic": "not-there"}, "not-there"),
        (Server(spec=SPEC), {"batching.max_batch_row": 3}, "did you mean 'max_batch_rows'?"),
    ],
    ids=["dtype", "shape", "inputs", "spec", "no version", "label", "topic", "unknown setting"],
)
async def test_each_contradiction_is_named(
    make_system: Callable[[str], System], tmp_path: Path, server: Server, settings: dict[str, object], message: str
) -> None:
    async with server.running():
        found = await check(make_system(server.address), server, tmp_path, **settings)
    assert found.returncode == 2, found.stdout + found.stderr
    assert message in found.stderr
    assert "Traceback" not in found.stderr


def test_different_specs_have_different_hashes() -> None:
    narrow = FeatureSpec.from_mapping({**SMALL, "embedding_dim": 5})
    assert narrow.hash != small_spec().hash
    assert FeatureSpec.from_mapping(orjson.loads(SPEC)).hash == small_spec().hash
