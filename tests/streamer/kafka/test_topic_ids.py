"""The ids of topics on a real broker, and the answers of other brokers."""

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError, UnknownTopicOrPartitionError
from aiokafka.structs import BrokerMetadata
from confluent_kafka.admin import AdminClient, NewTopic

from sandbox.broker.kafka import KafkaBroker
from streamer.kafka import groups
from streamer.kafka.topic_ids import topic_fingerprint
from streamer.settings import Settings
from tests.kafka_fixtures import FreshTopic

WAIT_S = 60.0


@pytest.mark.kafka
async def test_a_topic_that_is_created_again_has_another_id_and_its_group_no_commit(
    kafka: KafkaBroker, fresh_topic: FreshTopic
) -> None:
    topic = fresh_topic()
    top = TopicPartition(topic, 0)
    wanted = {"bootstrap_servers": kafka.bootstrap_servers, "group_id": topic}
    settings = Settings.model_validate({"kafka": wanted, "source": {"topic": topic}})
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, group_id=topic, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([top])
        before = await topic_fingerprint(consumer, topic, WAIT_S)
        assert before
        assert await topic_fingerprint(consumer, topic, WAIT_S) == before
        await consumer.commit({top: (17, "mark")})
        assert await groups.commits_of(settings, [top]) == {top: (17, "mark")}
        await asyncio.to_thread(admin.delete_topics([topic])[topic].result, WAIT_S)
        with pytest.raises(UnknownTopicOrPartitionError):
            await topic_fingerprint(consumer, topic, WAIT_S)
        created = admin.create_topics([NewTopic(topic, 1, 1)])[topic]
        await asyncio.to_thread(created.result, WAIT_S)
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    assert await topic_fingerprint(consumer, topic, WAIT_S) not in {0, before}
                except UnknownTopicOrPartitionError:
                    await asyncio.sleep(0.02)
                else:
                    break
        assert await groups.commits_of(settings, [top]) == {}
    finally:
        await consumer.stop()


class _Client:
    def __init__(self, answer: BaseException | None, *nodes: int) -> None:
        self._answer, self._nodes = answer, nodes
        self.cluster = self

    def brokers(self) -> set[BrokerMetadata]:
        return {BrokerMetadata(node, "host", 9092, None) for node in self._nodes}

    async def send(self, node: int, request: Any) -> Any:
        assert self._answer is not None
        raise self._answer


class _Consumer:
    def __init__(self, client: _Client) -> None:
        self._client = client


async def test_brokers_without_topic_ids_have_none() -> None:
    assert await topic_fingerprint(_Consumer(_Client(NotImplementedError("v10"), 1)), "t", 1.0) == 0


async def test_a_broker_that_does_not_answer_is_an_error_of_kafka() -> None:
    for client in (_Client(None), _Client(KafkaConnectionError("lost"), 1, 2)):
        with pytest.raises(KafkaError):
            await topic_fingerprint(_Consumer(client), "t", 1.0)
