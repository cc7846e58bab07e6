"""The bidders and rankers of `clients/`, in four languages, on a real broker with the real scorer."""

import json
import os
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from sandbox.broker.jars import jars_folder
from sandbox.broker.kafka import KafkaBroker
from sandbox.processes.model_server import ModelServerProcess
from sandbox.processes.scorer import ScorerProcess
from streamer.formats.ctr_pb2 import BidRequest, Scores
from tests.docs.worked_examples import ROOT
from tests.kafka_fixtures import FreshTopic
from tests.streamer.schemas.validation import faults
from tests.toolchains import needs

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

PARTITIONS = 12
"""No power of two: murmur2 modulo a power of two hides an error in the sign."""
REQUESTS = 80
FOREIGN = b"of another program"
"""The key of records on the topic of answers that are none."""
TIMEOUT_S = 600
_REFERENCE = """
import org.apache.kafka.common.utils.Utils;
public class Reference {
  public static void main(String[] keys) throws Exception {
    for (String key : keys) {
      System.out.println(Utils.toPositive(Utils.murmur2(key.getBytes("UTF-8"))) % %d);
    }
  }
}
"""


@dataclass(frozen=True, slots=True)
class Client:
    """The programs of a language, as `docs/clients.md` starts them.

    Attributes:
        build: commands that build them.
        bidder, ranker: command lines, the first one without its count.
        idle: the argument of a ranker that ends after some seconds without an answer.
    """

    build: Sequence[str]
    bidder: str
    ranker: str
    idle: str


TOOLS = {"python": (), "java": ("java", "mvn"), "go": ("go",), "node": ("node", "npm")}
_BLOCK = re.compile(r"^<!-- (\w+) -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def clients() -> dict[str, Client]:
    found = {}
    for language, block in _BLOCK.findall((ROOT / "docs/clients.md").read_text(encoding="utf-8")):
        *build, bidder, ranker = block.splitlines()
        assert bidder.endswith(" 100"), bidder
        idle = "8s" if language == "go" else "8"
        found[language] = Client(build, bidder.removesuffix("100"), f"{ranker} ", idle)
    assert found.keys() == TOOLS.keys()
    return found


CLIENTS = clients()


def run(command: str, environment: Mapping[str, str] | None = None) -> str:
    path = f"{ROOT}/.venv/bin:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env={**os.environ, "PATH": path, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module", params=list(CLIENTS))
def client(request: pytest.FixtureRequest) -> Client:
    """The programs of one language, built."""
    return built(request.param)


@cache
def built(language: str) -> Client:
    needs(*TOOLS[language])
    for command in CLIENTS[language].build:
        run(command)
    return CLIENTS[language]


@pytest.fixture(scope="module")
def partition_of(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[str]], list[int]]:
    """The partitions of keys by Kafka's own class."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "Reference.java").write_text(_REFERENCE.replace("%d", str(PARTITIONS)))

    def partitions(keys: Sequence[str]) -> list[int]:
        command = f"java -cp '{jars_folder()}/*' {folder}/Reference.java {' '.join(keys)}"
        return [int(line) for line in run(command).split()]

    return partitions


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics of one test, and a scorer's settings for them."""

    bootstrap: str
    requests: str
    scores: str
    settings: Mapping[str, object]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "KAFKA_BROKERS": self.bootstrap,
            "REQUEST_TOPIC": self.requests,
            "ANSWER_TOPIC": self.scores,
            # On a busy machine answers must not become `expired`.
            "DEADLINE_MS": "60000",
            "GROUP": f"rankers-of-{self.scores}",
            "START_AT": "earliest",
        }

    def read(self, topic: str, n: int) -> list[Any]:
        """The first n messages of all partitions, without those of other programs."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "test", "enable.auto.commit": False})
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        found: list[Any] = []
        try:
            while len(found) < n:
                messages = consumer.consume(n - len(found), timeout=60)
                assert messages, f"{len(found)} of {n} messages"
                found += [message for message in messages if message.key() != FOREIGN]
        finally:
            consumer.close()
        return found


@pytest.fixture
def topics(kafka: KafkaBroker, fresh_topic: FreshTopic, simulated_server: ModelServerProcess) -> Topics:
    requests, scores, dead = (fresh_topic(PARTITIONS, prefix=prefix) for prefix in ("requests", "scores", "dead"))
    settings = {
        "kafka.bootstrap_servers": kafka.bootstrap_servers,
        "kafka.group_id": f"group-of-{requests}",
        "predictor.addresses": [simulated_server.address],
        "source.topic": requests,
        "source.max_budget_ms": 600_000,
        "sink.topic": scores,
        "sink.dead_letter_topic": dead,
    }
    return Topics(kafka.bootstrap_servers, requests, scores, settings)


@contextmanager
def foreign_records(topics: Topics) -> Iterator[None]:
    """Publishes what is no answer in JSON on the topic of answers, five times a second."""
    values = (Scores(request_id="r").SerializeToString(), None, b"[]", b"null", b'{"request_id": "r", "status": "ok"}')
    stopping = threading.Event()

    def publish() -> None:
        producer = Producer({"bootstrap.servers": topics.bootstrap})
        while not stopping.wait(0.2):
            for partition, value in product(range(PARTITIONS), values):
                producer.produce(topics.scores, value, FOREIGN, partition=partition)
            assert producer.flush(60) == 0

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def publish_again(topics: Topics, answers: Sequence[Any]) -> None:
    """What a ranker sees after a crash of the scorer, and answers with the other statuses."""
    first = orjson.loads(answers[0].value())
    origin = first["origin"]

    def other(number: int, status: str, **changes: object) -> bytes:
        changed = {**first, "request_id": status, "status": status, "origin": {**origin, "offset": 10**6 + number}}
        for name, value in changes.items():
            changed.pop(name)
            if value is not None:
                changed[name] = value
        assert faults("answer", changed) == []
        return orjson.dumps(changed)

    scoreless = dict.fromkeys(("model", "ad_id", "ctr", "source"))
    plain = Producer({"bootstrap.servers": topics.bootstrap})
    for answer in answers[:3]:
        plain.produce(
            topics.scores, answer.value(), answer.key(), partition=answer.partition(), headers=answer.headers()
        )
    for number, value in enumerate(
        (
            other(1, "partial", ctr=[0.1, 0.9, 0.2], source=["model", "prior", "cache"]),
            other(2, "fallback", source=["prior"] * 3),
            other(3, "expired", **scoreless),
            orjson.dumps({**orjson.loads(other(4, "expired", **scoreless)), "status": "invalid", "reason": "user: …"}),
            orjson.dumps({**orjson.loads(other(5, "expired", **scoreless)), "status": "of a later version"}),
        )
    ):
        # The brokers take any header; that of the first one is no number.
        late = [("deadline_ms", b"30" if number else b"soon"), ("sent_at_ms", b"1767225600000")]
        plain.produce(topics.scores, value, b"u1", partition=number, headers=late)
    assert plain.flush(60) == 0
    aborted = Producer({"bootstrap.servers": topics.bootstrap, "transactional.id": f"t-{topics.scores}"})
    aborted.init_transactions(60)
    aborted.begin_transaction()
    aborted.produce(topics.scores, other(9, "fallback", source=["prior"] * 3), b"u1", partition=0)
    assert aborted.flush(60) == 0
    aborted.abort_transaction(60)


def test_a_bidder_and_a_ranker(
    client: Client, topics: Topics, partition_of: Callable[[Sequence[str]], list[int]], tmp_path: Path
) -> None:
    with ScorerProcess(topics.settings, tmp_path / "scorer.log"), foreign_records(topics):
        said = lines(run(f"{client.bidder}{REQUESTS}", topics.environment))
    sent = [line for line in said if "partition" in line]
    answered = [line for line in said if "status" in line]
    assert len(sent) == len(answered) == REQUESTS
    assert {line["status"] for line in answered} == {"ok"}
    assert {line["request_id"] for line in answered} == {line["request_id"] for line in sent}
    users = [line["user"] for line in sent]
    assert len(set(users)) == 40
    assert [line["partition"] for line in sent] == partition_of(users)

    requests = topics.read(topics.requests, REQUESTS)
    for record in requests:
        headers = {name: value.decode() for name, value in record.headers()}
        document = orjson.loads(record.value())
        assert faults("request", document) == faults("request-headers", headers) == []
        assert headers["request_id"] == document["request_id"]
        assert headers.keys() == {"request_id", "deadline_ms", "content-type", "sent_at_ms"}
        assert record.key().decode() == document["user"]["id"]

    answers = topics.read(topics.scores, REQUESTS)
    publish_again(topics, answers)
    *chosen, report = lines(run(client.ranker + client.idle, topics.environment))
    statuses = {"ok": REQUESTS, **dict.fromkeys(("partial", "fallback", "expired", "invalid", "of a later version"), 1)}
    assert report == {"answers": statuses, "duplicates": 3, "late": 4}
    best = {line["request_id"]: line["best"] for line in chosen}
    assert len(best) == REQUESTS + 3, "three of the made answers have one request id"
    assert (best["partial"], best["expired"]) == ("a2", None)
    for answer in map(orjson.loads, (message.value() for message in answers)):
        assert faults("answer", answer) == []
        assert best[answer["request_id"]] == answer["ad_id"][answer["ctr"].index(max(answer["ctr"]))]
    assert Counter(line["late_ms"] > 0 for line in chosen) == {False: REQUESTS + 1, True: 4}


def test_a_bidder_of_protobuf(
    topics: Topics, partition_of: Callable[[Sequence[str]], list[int]], tmp_path: Path
) -> None:
    java = built("java")
    with ScorerProcess(topics.settings, tmp_path / "scorer.log"):
        said = lines(run(f"FORM=protobuf {java.bidder}50", topics.environment))
    assert Counter(line["status"] for line in said if "status" in line) == {"ok": 50}
    sent = [line for line in said if "partition" in line]
    assert [line["partition"] for line in sent] == partition_of([line["user"] for line in sent])
    for record in topics.read(topics.requests, 50):
        assert dict(record.headers())["content-type"] == b"application/x-protobuf"
        assert len(BidRequest.FromString(record.value()).candidates) == 3


def test_a_bidder_without_a_scorer_goes_on(client: Client, topics: Topics) -> None:
    """It bids without scores when its time is over."""
    said = lines(run(f"{client.bidder}3", {**topics.environment, "DEADLINE_MS": "50"}))
    assert [line["status"] for line in said if "status" in line] == ["no answer"] * 3
