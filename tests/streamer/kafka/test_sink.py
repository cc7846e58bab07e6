"""The sink on a real broker that rejects batches, for a while or for good."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from aiokafka import AIOKafkaConsumer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from sandbox.broker.admin import admin_client
from sandbox.broker.kafka import KafkaBroker
from streamer.errors import MessageTooLargeError
from streamer.kafka import clients
from streamer.kafka.sink import Sink
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.tasks import TaskOwner
from streamer.types import DeadLetter, Origin
from tests.kafka_fixtures import FreshTopic

pytestmark = pytest.mark.kafka

ORIGIN = Origin("requests", 0, 0)
LIMIT = 20_000
WAIT_S = 120


@pytest.fixture
def topic(fresh_topic: FreshTopic) -> str:
    """A topic that accepts batches of at most LIMIT bytes."""
    return fresh_topic(config={"max.message.bytes": str(LIMIT)})


def settings_of(kafka: KafkaBroker, topic: str) -> Settings:
    return Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": kafka.bootstrap_servers, "request_timeout_ms": 60_000},
            "sink": {"topic": topic, "dead_letter_topic": topic, "retry_ms": 50},
        }
    )


class Refusals:
    """A logger that counts the failures of messages until there are three."""

    def __init__(self) -> None:
        self.several, self._count = asyncio.Event(), 0

    def warning(self, event: str, **_: object) -> None:
        self._count += event == "not accepted by the brokers, retried"
        if self._count >= 3:
            self.several.set()


@asynccontextmanager
async def started(settings: Settings, log: Any = None) -> AsyncIterator[Sink]:
    logger = structlog.get_logger() if log is None else log
    async with TaskOwner() as tasks:
        sink = Sink(lambda size: clients.producer(settings, size), settings.sink, Metrics(), logger, tasks.spawn)
        await sink.start()
        try:
            yield sink
        finally:
            tasks.cancel()
            await sink.stop()


async def values(kafka: KafkaBroker, topic: str) -> list[bytes]:
    """The values of all records of the topic."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        (partition,) = consumer.assignment()
        end = (await consumer.end_offsets([partition]))[partition]
        found: list[bytes] = []
        while len(found) < end:
            found += [
                record.value for record in (await consumer.getmany(partition, timeout_ms=1000)).get(partition, [])
            ]
        return found
    finally:
        await consumer.stop()


def change(kafka: KafkaBroker, topic: str, name: str, value: str) -> None:
    """Changes a setting of a topic; it is in effect on return."""
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = admin_client(kafka.internal_servers)
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(WAIT_S)


async def test_answers_that_are_too_large_together_arrive_one_by_one(kafka: KafkaBroker, topic: str) -> None:
    sent = [b"%03d" % i + b"x" * 5000 for i in range(60)]
    async with asyncio.timeout(WAIT_S), started(settings_of(kafka, topic)) as sink:
        await asyncio.gather(*(sink.publish(ORIGIN, b"k", value, []) for value in sent))
    assert sorted(await values(kafka, topic)) == sent


async def test_an_answer_that_is_too_large_fails_alone(kafka: KafkaBroker, topic: str) -> None:
    sent = [b"%03d" % i + b"x" * 2000 for i in range(30)]
    async with asyncio.timeout(WAIT_S), started(settings_of(kafka, topic)) as sink:
        publishing = [sink.publish(ORIGIN, b"k", value, []) for value in [*sent, b"y" * (LIMIT + 1)]]
        *others, large = await asyncio.gather(*publishing, return_exceptions=True)
        assert others == [None] * len(sent)
        assert isinstance(large, MessageTooLargeError)
        assert str(large) == f"{LIMIT + 2} bytes are too large for topic {topic!r}"
        await sink.publish(ORIGIN, b"k", b"after", [])
    assert sorted(await values(kafka, topic)) == [*sent, b"after"]


async def test_a_dead_letter_leaves_out_the_parts_that_are_too_large(kafka: KafkaBroker, topic: str) -> None:
    large = b"x" * (LIMIT + 1)
    async with asyncio.timeout(WAIT_S), started(settings_of(kafka, topic)) as sink:
        for key, value in ((b"k", large), (large, large)):
            await sink.dead_letter(DeadLetter(key, value, [], ORIGIN, 1, "decode", "too large"))
    assert len(await values(kafka, topic)) == 2


async def test_an_answer_that_was_rejected_for_a_while_arrives_once_without_a_restart(
    kafka: KafkaBroker, fresh_topic: FreshTopic
) -> None:
    topic, refusals = fresh_topic(), Refusals()
    sent = [b"before"]
    async with asyncio.timeout(WAIT_S), started(settings_of(kafka, topic), refusals) as sink:
        await sink.publish(ORIGIN, b"k", b"before", [])
        # The broker rejects records with a timestamp in the past, and aiokafka does not retry this error. A record that
        # arrives within the millisecond of its timestamp is accepted, so several are sent.
        await asyncio.to_thread(change, kafka, topic, "message.timestamp.before.max.ms", "0")
        async with asyncio.TaskGroup() as tasks:
            while not refusals.several.is_set():
                sent.append(b"meanwhile %d" % len(sent))
                tasks.create_task(sink.publish(ORIGIN, b"k", sent[-1], []))
                await asyncio.wait([several := asyncio.ensure_future(refusals.several.wait())], timeout=0.02)
                several.cancel()
            await asyncio.to_thread(change, kafka, topic, "message.timestamp.before.max.ms", str(2**53))
        sent.append(b"after")
        await sink.publish(ORIGIN, b"k", b"after", [])
    assert sorted(await values(kafka, topic)) == sorted(sent)
