"""Members of one consumer group on a real broker: a member that stays keeps its partitions."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.subscription_state import SubscriptionState

from sandbox.broker.kafka import KafkaBroker
from streamer.kafka import clients
from streamer.settings import Settings
from tests.kafka_fixtures import FreshTopic

pytestmark = pytest.mark.kafka

WAIT_S = 120.0
PARTITIONS = frozenset(range(6))


def has(consumer: AIOKafkaConsumer) -> frozenset[int]:
    """The partitions that a member has now."""
    return frozenset(partition.partition for partition in consumer.assignment())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110  the brokers decide when
            await asyncio.sleep(0.02)


def settings_of(kafka: KafkaBroker, topic: str) -> Settings:
    return Settings.model_validate(
        {
            "kafka": {
                "bootstrap_servers": kafka.bootstrap_servers,
                "group_id": f"group-of-{topic}",
                "session_timeout_ms": 6000,
            }
        }
    )


async def joined(settings: Settings, topic: str, stack: AsyncExitStack) -> AIOKafkaConsumer:
    """A member of the group until the stack closes."""
    consumer = clients.consumer(settings)
    consumer.subscribe([topic])
    await consumer.start()
    stack.push_async_callback(consumer.stop)
    return consumer


async def test_a_member_that_stays_keeps_its_partitions(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic(partitions=len(PARTITIONS))
    settings = settings_of(kafka, topic)
    async with AsyncExitStack() as stack:
        first = await joined(settings, topic, stack)
        await until(lambda: has(first) == PARTITIONS)
        second = await joined(settings, topic, stack)
        await until(lambda: len(has(first)) == len(has(second)) == 3)
        before = has(first), has(second)
        third = await joined(settings, topic, stack)
        await until(lambda: len(has(first)) == len(has(second)) == len(has(third)) == 2)
        assert has(first) < before[0]
        assert has(second) < before[1]
        held = has(first), has(third)
        await second.stop()
        await until(lambda: has(first) | has(third) == PARTITIONS)
        assert has(first) > held[0]
        assert has(third) > held[1]


async def test_a_member_stays_in_the_group_however_long_its_reading_pauses(
    kafka: KafkaBroker, fresh_topic: FreshTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that left would receive the records that it still holds again."""
    topic = fresh_topic(partitions=len(PARTITIONS))
    settings = settings_of(kafka, topic)
    async with AsyncExitStack() as stack:
        first = await joined(settings, topic, stack)
        await until(lambda: has(first) == PARTITIONS)
        monkeypatch.setattr(SubscriptionState, "fetcher_idle_time", 7 * 86_400.0)
        second = await joined(settings, topic, stack)
        await until(lambda: len(has(first)) == len(has(second)) == 3)
