"""Positions on a real broker: retention, topics created again, added partitions, topics with transactions."""

import asyncio
import time
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as Top
from aiokafka.admin import AIOKafkaAdminClient
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from sandbox.processes.model_server import ModelServerProcess
from sandbox.processes.scorer import ScorerProcess
from tests.end_to_end.conftest import ANSWER_S, System, request

pytestmark = pytest.mark.kafka

Changes = dict[str, object]


@pytest.fixture
def system(make_system: Callable[[str], System], simulated_server: ModelServerProcess) -> System:
    """New topics, and the simulated model server."""
    return make_system(simulated_server.address)


@pytest.fixture
def admin(system: System) -> AdminClient:
    return AdminClient({"bootstrap.servers": system.bootstrap})


def _send(system: System, name: str, count: int, *, partition: int = 0) -> set[str]:
    producer = Producer({"bootstrap.servers": system.bootstrap, "linger.ms": 5})
    names = {f"{name}{i}" for i in range(count)}
    for each in sorted(names):
        producer.produce(system.requests, request(each), partition=partition)
    assert producer.flush(60) == 0
    return names


def _answered(system: System, names: set[str], count: int) -> None:
    """Waits until there are `count` answers, among them one to each of these requests."""
    found = [message.json["request_id"] for message in system.read(system.scores, count)]
    assert names <= set(found), f"{len(names - set(found))} of {len(names)} requests have no answer"


def _committed(system: System) -> int:
    """The group's committed offset; below 0 without a commit."""

    async def ask() -> int:
        admin = AIOKafkaAdminClient(bootstrap_servers=system.bootstrap)
        await admin.start()
        try:
            top = Top(system.requests, 0)
            found = await admin.list_consumer_group_offsets(str(system.settings["kafka.group_id"]), partitions=[top])
        finally:
            await admin.close()
        return found[top].offset if top in found else -1

    return asyncio.run(ask())


def _lag(system: System) -> int:
    """As `kafka-consumer-groups.sh --describe` calculates it."""
    reader = Consumer({"bootstrap.servers": system.bootstrap, "group.id": "reads nothing"})
    try:
        return int(reader.get_watermark_offsets(TopicPartition(system.requests, 0), timeout=60)[1] - _committed(system))
    finally:
        reader.close()


def _until(condition: Callable[[], bool], seconds: float = ANSWER_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


def _commit(system: System, offset: int) -> None:
    async def commit() -> None:
        group = system.settings["kafka.group_id"]
        consumer = AIOKafkaConsumer(bootstrap_servers=system.bootstrap, group_id=group, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign([Top(system.requests, 0)])
            await consumer.commit({Top(system.requests, 0): (offset, "")})
        finally:
            await consumer.stop()

    asyncio.run(commit())


def _said(scorer: ScorerProcess, text: str) -> int:
    return scorer.log_path.read_text().count(text)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"supervisor__workers": 1}], ids=["alone", "supervised"])
def test_records_that_retention_deleted_are_named_once_and_the_others_answered(
    system: System, admin: AdminClient, changes: Changes
) -> None:
    _send(system, "old", 150)
    names = _send(system, "kept", 150)
    _commit(system, 100)
    (deleted,) = admin.delete_records([TopicPartition(system.requests, 0, 150)]).values()
    deleted.result(60)
    with system.scorer(source__start_at="latest", **changes) as scorer:
        _answered(system, names, 150)
        processes = [{"worker": "0"}, {"worker": "1"}] if changes else [{}]
        skipped = [scorer.metric("streamer_source_skipped_records_total", reason="deleted", **one) for one in processes]
        assert sum(skipped) == 50
        assert scorer.stop() == 0
        assert _said(scorer, "records were deleted before they were read") == 1
    assert len(system.read(system.scores, 151, timeout_s=2)) == 150


@pytest.mark.slow
@pytest.mark.parametrize("count", [5, 60])
@pytest.mark.parametrize(
    "changes",
    [{}, {"supervisor__workers": 1}, {"delivery__guarantee": "exactly_once"}, {"delivery__guarantee": "at_most_once"}],
    ids=["alone", "supervised", "exactly_once", "at_most_once"],
)
def test_a_topic_is_created_again_under_a_running_scorer(
    system: System, admin: AdminClient, changes: Changes, count: int
) -> None:
    with system.scorer(source__start_at="latest", **changes) as scorer:
        _until(lambda: _committed(system) >= 0)
        _answered(system, _send(system, "old", 30), 30)
        _until(lambda: _lag(system) == 0)
        admin.delete_topics([system.requests])[system.requests].result(60)
        _create(admin, system.requests)
        names = _send(system, "new", count)
        _until(lambda: _said(scorer, "the topic was deleted and created again") == 1, 60)
        _answered(system, names, 30 + count)
        _until(lambda: _lag(system) == 0)
        assert scorer.stop() == 0


def _create(admin: AdminClient, topic: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(60)
        except KafkaException:
            # The deletion goes on after its answer.
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"supervisor__workers": 2}], ids=["alone", "supervised"])
def test_requests_in_an_added_partition_are_answered_before_aiokafka_looks(
    system: System, admin: AdminClient, changes: Changes
) -> None:
    _send(system, "before", 40)
    with system.scorer(source__start_at="latest", **changes) as scorer:
        _until(lambda: _committed(system) >= 0)
        _answered(system, _send(system, "first", 3), 3)
        partitions = NewPartitions(system.requests, 2)
        admin.create_partitions([partitions])[system.requests].result(60)
        began = time.monotonic()
        names = _send(system, "added", 50, partition=1)
        _answered(system, names, 53)
        assert time.monotonic() - began < 240, "aiokafka itself looks every 300 s; the scorer every 30 s"
        assert scorer.stop() == 0
    assert len(system.read(system.scores, 54, timeout_s=2)) == 53


@pytest.mark.slow
@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once", "at_most_once"])
def test_an_idle_scorer_has_no_lag_on_a_topic_with_transactions(system: System, guarantee: str) -> None:
    writer = Producer({"bootstrap.servers": system.bootstrap, "transactional.id": system.requests})
    writer.init_transactions(60)
    with system.scorer(delivery__guarantee=guarantee) as scorer:
        for i in range(3):
            writer.begin_transaction()
            writer.produce(system.requests, request(f"r{i}"), partition=0)
            writer.commit_transaction(60)
        writer.begin_transaction()
        writer.produce(system.requests, request("aborted"), partition=0)
        writer.flush(60)
        writer.abort_transaction(60)
        system.answers(3)
        _until(lambda: _lag(system) == 0, 30)
        _until(lambda: scorer.metric("streamer_source_lag_records", partition="0") == 0, 30)
        assert scorer.metric("streamer_source_lag_seconds", partition="0") == 0
        assert scorer.stop() == 0
    assert _lag(system) == 0
