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
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from sandbox.broker.kafka import KafkaBroker
from sandbox.host.ports import free_ports
from sandbox.processes.model_server import ModelServerProcess
from sandbox.processes.scorer import ScorerProcess
from streamer.features import FeatureSpec
from streamer.serving.protos import get_model_metadata_pb2, types_pb2
from streamer.serving.replies import metadata_reply
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


REJECTIONS = [
    (
        {"kafka.session_timeout_ms": 2_000_000},
        "kafka.session_timeout_ms is 2000000, the brokers accept 1000 to 1800000 (group.min.session.timeout.ms",
    ),
    (
        {"delivery.guarantee": "exactly_once", "delivery.transaction_timeout_ms": 900_001},
        "delivery.transaction_timeout_ms is 900001, the brokers accept at most 900000 (transaction.max.timeout.ms)",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "message"), REJECTIONS)
async def test_a_timeout_out_of_the_brokers_bounds(
    make_system: Callable[[str], System], tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    async with Server(spec=SPEC).running() as server:
        found = await check(make_system(server.address), server, tmp_path, **settings)
    assert found.returncode == 2, found.stdout + found.stderr
    (line,) = found.stderr.splitlines()
    assert message in line
    assert "all topics are there" in found.stdout, "the other probes' outcomes follow"


@pytest.mark.slow
@pytest.mark.parametrize("supervised", [{}, {"supervisor__workers": 1}], ids=["alone", "supervised"])
@pytest.mark.parametrize(("settings", "message"), REJECTIONS)
def test_a_scorer_that_the_brokers_reject_prints_the_same_line_and_exits(
    make_system: Callable[[str], System],
    simulated_server: ModelServerProcess,
    settings: dict[str, object],
    message: str,
    supervised: dict[str, object],
) -> None:
    _rejected(make_system(simulated_server.address).scorer(**settings, **supervised), message)


@pytest.mark.slow
@pytest.mark.parametrize("supervised", [{}, {"supervisor__workers": 1}], ids=["alone", "supervised"])
async def test_a_group_with_another_assignor_is_named(
    make_system: Callable[[str], System],
    simulated_server: ModelServerProcess,
    tmp_path: Path,
    supervised: dict[str, object],
) -> None:
    system = make_system(simulated_server.address)
    other = AIOKafkaConsumer(
        system.requests,
        bootstrap_servers=system.bootstrap,
        group_id=system.settings["kafka.group_id"],
        client_id="billing",
        partition_assignment_strategy=[RangePartitionAssignor],
    )
    await other.start()
    try:
        message = "uses the assignor 'range' (client billing at 127.0.0.1), this scorer 'sticky'"
        async with Server(spec=SPEC).running() as server:
            found = await check(system, server, tmp_path)
        assert found.returncode == 2
        assert message in found.stderr
        await asyncio.to_thread(_rejected, system.scorer(**supervised), message)
    finally:
        await other.stop()


def _rejected(scorer: ScorerProcess, message: str) -> None:
    scorer.spawn()
    try:
        assert scorer.wait(300) == 2, scorer.log_tail()
    finally:
        scorer.kill()
    log = scorer.log_path.read_text()
    lines = [line for line in log.splitlines() if line.startswith("streamer: ")]
    assert lines, "one of the process, or one of each worker"
    assert all(message in line for line in lines)
    assert "Traceback" not in log, log


@pytest.mark.slow
async def test_an_advertised_address_that_cannot_be_reached(tmp_path: Path) -> None:
    (unused,) = free_ports(1)
    with KafkaBroker(advertised_port=unused) as broker:
        config = tmp_path / "streamer.yaml"
        kafka = {"bootstrap_servers": broker.bootstrap_servers, "request_timeout_ms": 2000}
        config.write_text(yaml.safe_dump({"kafka": kafka}))
        for words in (["topics", "create"], ["check-config", "--live"]):
            command = [sys.executable, "-m", "streamer", *words, "--config", str(config)]
            found = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
            assert found.returncode == 2
            line = found.stderr.splitlines()[0]
            assert f"{broker.bootstrap_servers} answers, but not each address that it names" in line
            assert f"127.0.0.1:{unused}: " in line
            assert "Traceback" not in found.stderr
