"""Requests after an outage on a real broker: live ones are scored while old ones are answered `expired`."""

import asyncio
import time
from collections.abc import Callable

import orjson
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata
from confluent_kafka import Producer

from sandbox.processes.model_server import ModelServerProcess
from tests.end_to_end.conftest import ANSWER_S, Message, System, request

pytestmark = pytest.mark.kafka

OLD, LIVE = 2000, 20
HOUR_MS = 3_600_000


@pytest.fixture
def system(make_system: Callable[[str], System], simulated_server: ModelServerProcess) -> System:
    """New topics, and the simulated model server."""
    return make_system(simulated_server.address)


def _send(system: System, name: str, count: int, *, age_ms: int = 0) -> list[str]:
    producer = Producer({"bootstrap.servers": system.bootstrap, "linger.ms": 50})
    names = [f"{name}{i}" for i in range(count)]
    for each in names:
        timestamp_ms = round(time.time() * 1e3) - age_ms
        producer.produce(system.requests, request(each), key=b"u1", timestamp=timestamp_ms)
    assert producer.flush(60) == 0
    return names


def _committed(system: System) -> OffsetAndMetadata:
    partition = TopicPartition(system.requests, 0)

    async def ask() -> OffsetAndMetadata:
        admin = AIOKafkaAdminClient(bootstrap_servers=system.bootstrap)
        await admin.start()
        try:
            group = str(system.settings["kafka.group_id"])
            found = await admin.list_consumer_group_offsets(group, partitions=[partition])
        finally:
            await admin.close()
        return OffsetAndMetadata(found[partition].offset, " ".join(found[partition].metadata.split()))

    return asyncio.run(ask())


def test_live_requests_are_scored_while_old_ones_expire_and_each_has_one_answer(system: System) -> None:
    old = _send(system, "old", OLD, age_ms=HOUR_MS)
    live = _send(system, "live", LIVE)
    with system.scorer(source__max_backlog_records=1) as scorer:
        assert {m.json["request_id"]: m.json["status"] for m in _read_until(system, live)}.items() >= {
            (name, "ok") for name in live
        }
        # It answers 100 old requests/s at most, and leaves in the middle of the backlog.
        assert scorer.stop() == 0
    left = _committed(system)
    assert left.offset < OLD, "the old requests were answered before the live ones"
    assert left.metadata == f"ctr-streamer:clean answered {OLD}-{OLD + LIVE}"
    with system.scorer() as scorer:
        live += _send(system, "later", LIVE)
        answers = system.answers(OLD + 2 * LIVE)
        assert scorer.stop() == 0
    assert {name: answer["status"] for name, answer in answers.items()} == {
        **dict.fromkeys(old, "expired"),
        **dict.fromkeys(live, "ok"),
    }
    assert len(system.read(system.scores, OLD + 2 * LIVE + 1, timeout_s=3)) == OLD + 2 * LIVE, "an answer came twice"
    commit = _committed(system)
    assert (commit.offset, commit.metadata) == (OLD + 2 * LIVE, "ctr-streamer:clean")


def _read_until(system: System, names: list[str]) -> list[Message]:
    """All answers until each of these requests has one."""
    deadline = time.monotonic() + ANSWER_S
    while True:
        found = system.read(system.scores, OLD, timeout_s=1.0)
        if {orjson.loads(message.value or b"")["request_id"] for message in found} >= set(names):
            return found
        assert time.monotonic() < deadline, f"{len(found)} answers"


def test_a_skipped_backlog_is_counted_and_gets_no_answer(system: System) -> None:
    _send(system, "old", OLD, age_ms=HOUR_MS)
    live = _send(system, "live", LIVE)
    with system.scorer(source__backlog="skip", delivery__guarantee="exactly_once") as scorer:
        answers = system.answers(LIVE)
        assert scorer.metric("streamer_source_skipped_records_total", reason="backlog") == OLD
        assert scorer.stop() == 0
    assert {name: answer["status"] for name, answer in answers.items()} == dict.fromkeys(live, "ok")
    assert _committed(system).offset == OLD + LIVE
