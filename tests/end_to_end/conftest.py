"""A model of a small spec, a server for it, and scorers on their own topics."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from confluent_kafka import Consumer, Producer, TopicPartition

from sandbox.broker.kafka import KafkaBroker
from sandbox.host.ports import free_ports
from sandbox.processes.model_server import ModelServerProcess
from sandbox.processes.scorer import ScorerProcess
from tests.kafka_fixtures import FreshTopic
from tests.model_training.conftest import SPEC

ANSWER_S = 300.0
_CONFIG = {"spec": "spec.yaml", "model": {"kind": "wide_deep", "hidden_units": [8, 4], "embedding_stddev": 1.0}}


@dataclass(frozen=True, slots=True)
class Message:
    """An answer or a dead letter as a consumer sees it."""

    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]

    @property
    def json(self) -> dict[str, Any]:
        assert self.value is not None
        found: dict[str, Any] = orjson.loads(self.value)
        return found


@dataclass(frozen=True, slots=True)
class System:
    """Topics of one test, with one partition each."""

    bootstrap: str
    requests: str
    scores: str
    dead_letters: str
    shadow_scores: str
    feature_log: str
    settings: Mapping[str, object]
    folder: Path

    def scorer(self, **changes: object) -> ScorerProcess:
        """A scorer on these topics; `changes` are settings with `__` for the dot."""
        changed = {name.replace("__", "."): value for name, value in changes.items()}
        return ScorerProcess({**self.settings, **changed}, self.folder / "scorer.log")

    def send(
        self,
        values: Sequence[bytes | None],
        *,
        key: bytes | None = b"u1",
        keys: Sequence[bytes | None] | None = None,
        headers: list[tuple[str, bytes]] | None = None,
        compression: str = "none",
    ) -> None:
        """Produces records in this order, with one key or with one key per record."""
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "message.max.bytes": 8 << 20,
                "linger.ms": 50,
                "compression.type": compression,
            }
        )
        for value, of_its_own in zip(values, [key] * len(values) if keys is None else keys, strict=True):
            producer.produce(self.requests, value=value, key=of_its_own, headers=headers or [])
        assert producer.flush(30) == 0

    def read(self, topic: str, n: int, timeout_s: float = ANSWER_S) -> list[Message]:
        """The first n messages of a topic; fewer after `timeout_s`."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "test", "enable.auto.commit": False})
        consumer.assign([TopicPartition(topic, 0, 0)])
        found: list[Message] = []
        deadline = time.monotonic() + timeout_s
        try:
            while len(found) < n and time.monotonic() < deadline:
                for message in consumer.consume(n - len(found), timeout=0.2):
                    assert message.error() is None, message.error()
                    found.append(Message(message.key(), message.value(), dict(message.headers() or [])))
        finally:
            consumer.close()
        return found

    def answers(self, n: int, timeout_s: float = ANSWER_S) -> dict[str, dict[str, Any]]:
        """The first n answers by request id; fails on a duplicate answer."""
        found = [message.json for message in self.read(self.scores, n, timeout_s)]
        by_id = {answer["request_id"]: answer for answer in found}
        assert len(by_id) == len(found) == n, f"{len(found)} answers to {len(by_id)} requests, {n} expected"
        return by_id


@pytest.fixture(scope="session")
def model_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base path with version 1, an untrained model."""
    folder = tmp_path_factory.mktemp("models")
    for name, content in (("spec", SPEC), ("model", _CONFIG)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    command = [sys.executable, "-m", "model_training", "init", "--config", str(folder / "model.yaml")]
    subprocess.run([*command, "--export-to", str(folder / "ctr")], check=True, timeout=600)
    return folder / "ctr"


@pytest.fixture(scope="session")
def model_server(model_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServerProcess]:
    """One server for tests that neither stop it nor change its versions."""
    log = tmp_path_factory.mktemp("model-server") / "log"
    with ModelServerProcess(model_base, "ctr", rest_port=free_ports(1)[0], log_path=log) as server:
        yield server


@pytest.fixture(scope="session")
def simulated_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServerProcess]:
    """A server that answers any rows, for tests in which the scores do not matter."""
    folder = tmp_path_factory.mktemp("simulated")
    spec = folder / "spec.yaml"
    spec.write_text(yaml.safe_dump(SPEC), encoding="utf-8")
    command = ("-m", "sandbox.model_server.simulated", "--spec", str(spec), "--workers", "4")
    with ModelServerProcess(command=command, log_path=folder / "log") as server:
        yield server


@pytest.fixture
def make_system(kafka: KafkaBroker, fresh_topic: FreshTopic, tmp_path: Path) -> Callable[[str], System]:
    """`make_system(model server address)`: new topics and a new group."""

    def make(address: str) -> System:
        requests, scores, dead, shadow, features = (
            fresh_topic(config={"max.message.bytes": str(8 << 20)}, prefix=prefix)
            for prefix in ("requests", "scores", "dead", "shadow", "features")
        )
        settings = {
            "kafka.bootstrap_servers": kafka.bootstrap_servers,
            "kafka.group_id": f"group-of-{requests}",
            "predictor.addresses": [address],
            "source.topic": requests,
            "sink.topic": scores,
            "sink.dead_letter_topic": dead,
            "sink.shadow_topic": shadow,
            "sink.feature_log_topic": features,
            # On a busy machine answers must not become `expired`, and a pause must not cause a rebalance. Tests of time
            # override these settings.
            "source.budget_ms": 600_000,
            "source.max_budget_ms": 600_000,
            "kafka.request_timeout_ms": 60_000,
            "kafka.session_timeout_ms": 60_000,
            "predictor.control_timeout_ms": 60_000,
            "cache.ttl_s": 600,
            "service.drain_ms": 60_000,
            "shadow.timeout_ms": 60_000,
            "feature_log.timeout_ms": 60_000,
        }
        return System(kafka.bootstrap_servers, requests, scores, dead, shadow, features, settings, tmp_path)

    return make


@pytest.fixture
def system(make_system: Callable[[str], System], model_server: ModelServerProcess) -> System:
    """New topics, and the shared model server."""
    return make_system(model_server.address)


def request(request_id: str, ads: Sequence[str] = ("a1", "a2", "a3"), **more: object) -> bytes:
    """A valid request."""
    document = {
        "request_id": request_id,
        "user": {"id": "u1", "tags": ["a", "b"], "age": 31},
        "context": {"hour": 7},
        "candidates": [{"ad_id": ad, "bid": i, "size": 1.5} for i, ad in enumerate(ads)],
    }
    return orjson.dumps({**document, **more})
