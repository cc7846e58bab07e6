"""A supervised scorer whose requests name ads by id: one process writes the table, all answer from it."""

import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer

from sandbox.host.ports import free_ports
from sandbox.processes.model_server import ModelServerProcess
from sandbox.processes.scorer import ScorerProcess
from tests.end_to_end.conftest import ANSWER_S, System
from tests.kafka_fixtures import FreshTopic

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

ADS = {f"a{n}": {"bid": n, "size": 1.5} for n in range(50)}


@pytest.fixture
def system(make_system: Callable[[str], System], simulated_server: ModelServerProcess) -> System:
    return make_system(simulated_server.address)


@pytest.fixture
def topic(fresh_topic: FreshTopic) -> str:
    return fresh_topic(partitions=3, config={"cleanup.policy": "compact"}, prefix="ads")


@pytest.fixture
def directory() -> Iterator[Path]:
    """In memory, as in production."""
    path = Path(f"/dev/shm/ads-{os.getpid()}")  # noqa: S108
    yield path
    shutil.rmtree(path, ignore_errors=True)


def put(system: System, topic: str, ads: dict[str, Any]) -> None:
    producer = Producer({"bootstrap.servers": system.bootstrap, "partitioner": "murmur2_random"})
    for ad_id, ad in ads.items():
        producer.produce(topic, key=ad_id, value=None if ad is None else orjson.dumps(ad))
    assert producer.flush(30) == 0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ANSWER_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def writers(scorer: ScorerProcess) -> dict[str, bool]:
    """Whether each process writes the table, by its number."""
    lines = [line for line in scorer.get("/metrics").splitlines() if line.startswith("streamer_table_writer{")]
    return {line.partition('worker="')[2].partition('"')[0]: line.endswith(" 1.0") for line in lines}


def asked(system: System, number: int, *ads: str) -> dict[str, Any]:
    """The answer to the request with this number; requests have the numbers 1, 2, …

    A worker that was killed before its commit leaves older answers to be repeated; they are passed over.
    """
    document = {"request_id": f"r{number}", "user": {"id": "u1"}, "candidates": {"ad_id": ads}}
    system.send([orjson.dumps(document)])
    count = number
    while True:
        found = system.read(system.scores, count)
        assert len(found) == count, f"no answer to request {number}"
        if (answer := found[-1].json)["request_id"] == f"r{number}":
            return answer
        count += 1


def run(scorer: ScorerProcess, *words: str) -> subprocess.CompletedProcess[str]:
    """A command with the settings of the scorer."""
    command = [sys.executable, "-m", "streamer", *words]
    return subprocess.run(command, env=scorer.environment, capture_output=True, text=True, timeout=300, check=False)


def test_two_workers_and_a_standby_share_a_table_whose_writer_is_killed(
    system: System, topic: str, directory: Path
) -> None:
    put(system, topic, ADS)
    settings = {"ads__topic": topic, "ads__directory": str(directory), "ads__max_bytes": 2**24}
    with system.scorer(supervisor__workers=2, supervisor__standby=1, **settings) as scorer:
        until(lambda: sorted(writers(scorer).values()) == [False, False, True])
        answer = asked(system, 1, "a1", "a2")
        assert answer["status"] == "ok"
        assert answer["ads"]["topic"] == topic
        assert sum(answer["ads"]["positions"]) == len(ADS)

        (writer,) = [number for number, is_writer in writers(scorer).items() if is_writer]
        (pid,) = [each["pid"] for each in json.loads(scorer.get("/workers")) if str(each["worker"]) == writer]
        os.kill(pid, signal.SIGKILL)
        put(system, topic, {"new": {"bid": 1, "size": 1}, "a1": None})
        until(lambda: sorted(writers(scorer).values()) == [False, False, True])
        numbers = itertools.count(2)
        until(lambda: sum(asked(system, next(numbers), "new", "a1")["ads"]["positions"]) == len(ADS) + 2)
        assert "Are the ads current?" in scorer.get("/status")
    assert len(list(directory.iterdir())) == 1, "the table is kept for the next start"

    found = run(scorer, "check-config", "--live")
    assert found.returncode == 0, found.stderr
    assert "cleanup.policy" not in found.stdout


def test_requests_over_http_alone_have_the_ads_of_the_topic(system: System, topic: str, directory: Path) -> None:
    put(system, topic, ADS)
    (port,) = free_ports(1)
    settings = {**system.settings, "ads.topic": topic, "ads.directory": str(directory), "ads.max_bytes": 2**24}
    command = ("-m", "streamer", "serve-http", "--port", str(port))
    with ScorerProcess(settings, system.folder / "http.log", command=command):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        body = orjson.dumps({"request_id": "r1", "candidates": {"ad_id": ["a1", "none"]}})
        connection.request("POST", "/v1/score", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
    assert (answer["status"], answer["ad_id"]) == ("ok", ["a1", "none"])
    assert sum(answer["ads"]["positions"]) == len(ADS)


def test_a_scorer_says_that_the_topic_is_missing_or_not_compacted(system: System, fresh_topic: FreshTopic) -> None:
    found = run(system.scorer(ads__topic="there-is-none"), "run")
    assert found.returncode == 2
    assert "no topic there-is-none; `streamer topics create` creates missing topics" in found.stderr
    found = run(system.scorer(ads__topic=fresh_topic(prefix="ads")), "check-config", "--live")
    assert found.returncode == 0, found.stderr
    assert "cleanup.policy is delete: the topic loses ads" in found.stdout
