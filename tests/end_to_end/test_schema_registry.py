"""Bidders with a serialiser of a schema registry, the real scorer, and a real registry: Apicurio."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator

import orjson
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from sandbox.processes.model_server import ModelServerProcess
from streamer.errors import ConfigError, UnreachableError
from streamer.formats.compatibility import incompatible_request
from streamer.formats.ctr_pb2 import BidRequest, Candidate, Scores
from streamer.formats.frames import prefix, schema_id
from streamer.formats.proto_schema import OWN, read_schema
from streamer.formats.read_answers import read_answer
from streamer.schema_registry.client import ConfluentRegistry
from streamer.settings.deployment import RegistrySettings
from tests.end_to_end import apicurio
from tests.end_to_end.conftest import System
from tests.streamer.formats.test_compatibility import TEXT

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

MOVED = TEXT.replace("repeated bytes candidates = 5", "repeated string candidates = 5")
REASON = "BidRequest.candidates: expected repeated bytes, got repeated string"
CONF = {"auto.register.schemas": True, "use.deprecated.format": False}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a registry."""
    with apicurio.running(tmp_path_factory.mktemp("registry")) as url:
        yield url


@pytest.fixture
def client(registry: str) -> Iterator[SchemaRegistryClient]:
    """That of a bidder."""
    with SchemaRegistryClient({"url": registry}) as client:
        yield client


@pytest.fixture
def system(make_system: Callable[[str], System], simulated_server: ModelServerProcess) -> System:
    return make_system(simulated_server.address)


def message(request_id: str) -> BidRequest:
    document = {"request_id": request_id, "user": {"id": "u1"}, "context": {"hour": 7}}
    ads = [Candidate(texts=[ad], numbers=[0.5]).SerializeToString() for ad in ("a1", "a2", "a3")]
    return BidRequest(
        document=orjson.dumps(document), text_paths=["ad_id"], number_paths=["bid"], candidates=ads
    )  # fmt: skip


def test_requests_and_answers_of_a_registrys_serialisers(
    registry: str, client: SchemaRegistryClient, system: System
) -> None:
    context = SerializationContext(system.requests, MessageField.VALUE)
    serialise = ProtobufSerializer(BidRequest, client, CONF)
    deserialise = ProtobufDeserializer(Scores, {"use.deprecated.format": False}, client)
    framed = [serialise(message(f"r{i}"), context) for i in range(20)]
    assert framed[0][0] == 0
    with system.scorer(registry__url=registry, sink__answers="as_requested") as scorer:
        system.send(framed)
        answers = system.read(system.scores, 20)
        found = [
            deserialise(answer.value, SerializationContext(system.scores, MessageField.VALUE)) for answer in answers
        ]
        assert {scores.request_id for scores in found} == {f"r{i}" for i in range(20)}
        assert {scores.status for scores in found} == {"ok"}
        assert all(len(scores.ctr) == 3 for scores in found)
        assert [read_answer(answer.value, ())["request_id"] for answer in answers] == [
            scores.request_id for scores in found
        ]
        subject = client.get_latest_version(f"{system.scores}-value")
        assert {schema_id(answer.value) for answer in answers if answer.value} == {subject.schema_id}

        # Records of another schema are rejected from the registry's reply on.
        number = client.register_schema("another-topic-value", Schema(MOVED, "PROTOBUF"))
        last: dict[str, object] = {}
        for count in range(21, 80):
            system.send([prefix(number, [0]) + message(f"r{count}").SerializeToString()])
            last = read_answer(system.read(system.scores, count)[-1].value, ())
            if last["status"] != "ok":
                break
        assert (last["status"], last["reason"]) == ("invalid", f"record: schema {number}: {REASON}")
        assert scorer.metric("streamer_registry_rejected_records_total") == 1
        assert scorer.metric("streamer_registry_lookups_total", outcome="compatible") == 1
        assert scorer.metric("streamer_registry_lookups_total", outcome="incompatible") == 1


def test_a_schema_that_does_not_fit_ends_the_start(registry: str, client: SchemaRegistryClient, system: System) -> None:
    client.register_schema(f"{system.requests}-value", Schema(MOVED, "PROTOBUF"))
    scorer = system.scorer(registry__url=registry)
    scorer.spawn()
    assert scorer.wait(120) == 2
    assert f"subject '{system.requests}-value' version 1: {REASON}" in scorer.log_tail()


def test_the_commands_compare_the_subjects(registry: str, client: SchemaRegistryClient, system: System) -> None:
    environment = system.scorer(registry__url=registry, sink__answers="as_requested").environment

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "streamer", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    found = run("check-config", "--live")
    assert found.returncode == 0, found.stderr
    absent = f"subject {system.requests}-value: not registered yet; subject {system.scores}-value: not registered yet"
    assert f"schema registry at {registry}: {absent}" in found.stdout.splitlines()
    client.register_schema(f"{system.requests}-value", Schema(MOVED, "PROTOBUF"))
    reason = f"error: schema registry, subject {system.requests}-value: version 1 does not fit: {REASON}"
    found = run("check-config", "--live")
    assert found.returncode == 2
    assert f"streamer: {reason}; register a version that fits" in found.stderr
    found = run("doctor")
    assert found.returncode == 1
    assert reason in found.stdout.splitlines()


def test_the_client(registry: str) -> None:
    async def calls() -> None:
        client = ConfluentRegistry(RegistrySettings(url=registry))
        assert await client.latest("absent-value") is await client.schema(10**6) is None
        number = await client.register("client-value", OWN)
        assert await client.register("client-value", OWN) == number
        found, latest = await client.schema(number), await client.latest("client-value")
        assert found is not None
        assert latest is not None
        assert (found.kind, latest.kind, latest.id, latest.version) == ("PROTOBUF", "PROTOBUF", number, 1)
        for text in (found.text, latest.text):
            assert incompatible_request(read_schema(text)) is None
        with pytest.raises(ConfigError, match="does not let this process register a schema of subject"):
            await client.register("client-value", "message {")
        await client.close()
        for url, error in ((registry + "/nowhere", ConfigError), ("http://127.0.0.1:1", UnreachableError)):
            client = ConfluentRegistry(RegistrySettings(url=url))
            with pytest.raises(error, match=r"^registry\.url: ") as raised:
                await client.latest("absent-value")
            assert type(raised.value) is error
            await client.close()

    asyncio.run(calls())
