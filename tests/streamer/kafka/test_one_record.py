"""The record at one position, in memory and on a broker."""

import uuid

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import TopicPartition as AdminPartition
from confluent_kafka.admin import AdminClient

from sandbox.broker.kafka import KafkaBroker
from streamer.errors import ConfigError, StreamerError
from streamer.kafka.one_record import read_record, record_at
from streamer.kafka.record_batches import UnreadableRecord
from streamer.settings import Settings
from streamer.testing.consumer_group import FakeConsumer, FakeGroup
from streamer.testing.virtual_loop import virtual
from tests.kafka_fixtures import FreshTopic


@virtual
async def test_each_position_has_its_record_or_one_line() -> None:
    group = FakeGroup("t", 2)
    for i in range(3):
        group.produce(1, b"%d" % i)
    group.end_transaction(1)
    group.produce(1, b"4")
    group.delete_before(1, 1)
    unreadable = UnreadableRecord(*group.tops[0], 0, -1, 0, None, None, None, -1, -1, (), "too many headers")
    group.logs[group.tops[0]].append(unreadable)
    group.damaged[group.tops[0]] = 1
    group.produce(0, b"damaged")

    async def found(number: int, offset: int) -> bytes | str:
        try:
            record = await record_at(FakeConsumer(group, is_member=False), ("t", number), offset)
        except StreamerError as error:
            return str(error)
        value: bytes = record.value
        return value

    assert await found(1, 1) == b"1"
    assert await found(1, 4) == b"4"
    assert await found(1, 0) == "t/1 at offset 0: deleted by the topic's retention; the first record is at 1"
    nothing = "no record; compaction has removed it, or a transaction ends there or was aborted"
    assert await found(1, 3) == f"t/1 at offset 3: {nothing}"
    not_yet = "no record yet (or its transaction has not ended); the next one gets 5"
    assert await found(1, 5) == f"t/1 at offset 5: {not_yet}"
    assert await found(0, 1) == "t/0 at offset 1: cannot be read: damaged"
    assert await record_at(FakeConsumer(group, is_member=False), ("t", 0), 0) is unreadable


@pytest.mark.kafka
async def test_a_record_of_a_broker_has_its_headers(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic(partitions=2)
    settings = Settings.model_validate({"kafka": {"bootstrap_servers": kafka.bootstrap_servers}})
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=str(uuid.uuid4()))
    async with producer:
        for i in range(2):
            async with producer.transaction():
                await producer.send_and_wait(topic, b"%d" % i, partition=1, headers=[("request_id", b"r%d" % i)])
    # Offsets 1 and 3 are the ends of the transactions.
    record = await read_record(settings, (topic, 1), 2)
    assert (record.offset, record.value, record.headers) == (2, b"1", (("request_id", b"r1"),))
    for offset, text in ((1, "no record; compaction"), (3, "no record; compaction"), (4, "no record yet")):
        with pytest.raises(StreamerError, match=f"^{topic}/1 at offset {offset}: {text}"):
            await read_record(settings, (topic, 1), offset)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for done in admin.delete_records([AdminPartition(topic, 1, 2)]).values():
        done.result(60)
    with pytest.raises(StreamerError, match="deleted by the topic's retention; the first record is at 2"):
        await read_record(settings, (topic, 1), 0)
    with pytest.raises(ConfigError, match=f"^topic '{topic}' has no partition 2; its partitions are 0 to 1$"):
        await read_record(settings, (topic, 2), 0)
    with pytest.raises(ConfigError, match=r"^no topic nowhere; "):
        await read_record(settings, ("nowhere", 0), 0)
