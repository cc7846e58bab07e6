"""The group in memory behaves as aiokafka's client on a real broker."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, OffsetOutOfRangeError
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as AdminPartition
from confluent_kafka.admin import AdminClient

from sandbox.broker.kafka import KafkaBroker
from streamer.kafka import clients
from streamer.settings import Settings
from streamer.testing.consumer_group import FakeConsumer, FakeGroup
from tests.kafka_fixtures import FreshTopic

WAIT_S = 120.0


@dataclass
class Group:
    """A group on a topic of two partitions, in memory or on a broker."""

    topic: str
    member: Callable[[], Any]
    produce: Callable[..., None]
    reader: Callable[[], Any]
    delete_before: Callable[[int, int], None]
    transact: Callable[[int, bytes], None]

    @property
    def tops(self) -> list[TopicPartition]:
        return [TopicPartition(self.topic, number) for number in range(2)]


@dataclass
class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Records its calls; a revocation calls `on_revoke` first."""

    on_revoke: Callable[[], Awaitable[None]] | None = None
    calls: list[tuple[str, int]] = field(default_factory=list)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        gone = list(revoked)
        if gone and self.on_revoke is not None:
            await self.on_revoke()
        self.calls.append(("revoked", len(gone)))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.calls.append(("assigned", len(list(assigned))))


def _in_memory() -> Group:
    fake = FakeGroup("t", 2)

    def transact(number: int, value: bytes) -> None:
        fake.produce(number, value)
        fake.end_transaction(number)

    return Group(
        "t",
        lambda: FakeConsumer(fake),
        fake.produce,
        lambda: FakeConsumer(fake, is_member=False),
        fake.delete_before,
        transact,
    )


def _on_a_broker(kafka: KafkaBroker, fresh_topic: FreshTopic) -> Group:
    topic = fresh_topic(partitions=2)
    wanted = {"bootstrap_servers": kafka.bootstrap_servers, "group_id": topic, "session_timeout_ms": 6000}
    settings = Settings.model_validate({"kafka": wanted})
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})

    def produce(number: int, value: bytes, timestamp_ms: int = 0) -> None:
        producer.produce(topic, value, partition=number, timestamp=timestamp_ms)
        assert producer.flush(WAIT_S) == 0

    def delete_before(number: int, offset: int) -> None:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        for done in admin.delete_records([AdminPartition(topic, number, offset)]).values():
            done.result(WAIT_S)

    def transact(number: int, value: bytes) -> None:
        writer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": topic})
        writer.init_transactions(WAIT_S)
        writer.begin_transaction()
        writer.produce(topic, value, partition=number)
        writer.commit_transaction(WAIT_S)

    # The suite reads before it seeks; the scorer's source seeks first.
    member = partial(clients._group_consumer, settings, auto_offset_reset="earliest")  # noqa: SLF001
    return Group(topic, member, produce, lambda: clients.backlog_consumer(settings), delete_before, transact)


@pytest.fixture(params=["in memory", pytest.param("on a broker", marks=pytest.mark.kafka)])
async def group(request: pytest.FixtureRequest) -> Group:
    if request.param == "in memory":
        return _in_memory()
    return _on_a_broker(request.getfixturevalue("kafka"), request.getfixturevalue("fresh_topic"))


@pytest.fixture
async def members() -> AsyncIterator[AsyncExitStack]:
    """Stops all members at the end."""
    async with AsyncExitStack() as stack:
        yield stack


async def join(group: Group, members: AsyncExitStack, listener: Listener | None = None) -> Any:
    consumer = group.member()
    consumer.subscribe([group.topic], listener=listener)
    await consumer.start()
    members.push_async_callback(consumer.stop)
    return consumer


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110  the brokers decide when
            await asyncio.sleep(0.02)


async def read(consumer: Any, count: int, most: int = 100) -> list[ConsumerRecord]:
    found: list[ConsumerRecord] = []
    async with asyncio.timeout(WAIT_S):
        while len(found) < count:
            chunk = await consumer.getmany(timeout_ms=100, max_records=most)
            assert sum(map(len, chunk.values())) <= most
            found += [record for records in chunk.values() for record in records]
    return found


async def test_a_member_reads_from_the_commit_of_its_group_on(group: Group, members: AsyncExitStack) -> None:
    for number in range(5):
        group.produce(0, b"%d" % number)
    first = await join(group, members)
    await until(lambda: first.assignment() == set(group.tops))
    assert [(r.offset, r.value) for r in await read(first, 3, most=3)] == [(n, b"%d" % n) for n in range(3)]
    top = group.tops[0]
    assert first.highwater(top) == 5
    assert await first.position(top) == 3
    assert await first.end_offsets([top]) == {top: 5}
    assert await first.beginning_offsets([top]) == {top: 0}
    first.seek(top, 1)
    assert [record.offset for record in await read(first, 1, most=1)] == [1]
    await first.commit({top: (2, "mine")})
    await first.stop()
    second = await join(group, members)
    await until(lambda: second.assignment() == set(group.tops))
    assert [record.offset for record in await read(second, 3)] == [2, 3, 4]


async def test_a_paused_partition_loses_no_record(group: Group, members: AsyncExitStack) -> None:
    consumer = await join(group, members)
    await until(lambda: consumer.assignment() == set(group.tops))
    assert consumer.paused() == set()
    consumer.pause(group.tops[0])
    assert consumer.paused() == {group.tops[0]}
    for number in range(2):
        group.produce(number, b"r")
    (record,) = await read(consumer, 1)
    assert record.partition == 1
    assert await consumer.getmany(timeout_ms=300, max_records=9) == {}
    consumer.resume(group.tops[0])
    (record,) = await read(consumer, 1)
    assert (record.partition, record.offset) == (0, 0)


async def test_a_member_may_commit_for_partitions_during_their_revocation(
    group: Group, members: AsyncExitStack
) -> None:
    for top in group.tops:
        group.produce(top.partition, b"r")
        group.produce(top.partition, b"r")
    listener = Listener()
    first = await join(group, members, listener)
    await until(lambda: first.assignment() == set(group.tops))
    await read(first, 2)

    async def commit() -> None:
        await first.commit(dict.fromkeys(first.assignment(), (1, "bye")))

    listener.on_revoke = commit
    other = Listener()
    second = await join(group, members, other)
    await until(lambda: len(first.assignment()) == len(second.assignment()) == 1)
    await until(lambda: other.calls[-1][0] == listener.calls[-1][0] == "assigned")
    assert listener.calls == [("revoked", 0), ("assigned", 2), ("revoked", 2), ("assigned", 1)]
    assert first.assignment() | second.assignment() == set(group.tops)
    for consumer in (first, second):
        assert [record.offset for record in await read(consumer, 1)] == [1]


async def test_a_member_cannot_commit_for_the_partitions_of_another(group: Group, members: AsyncExitStack) -> None:
    first = await join(group, members)
    second = await join(group, members)
    await until(lambda: len(first.assignment()) == len(second.assignment()) == 1)
    (other,) = second.assignment()
    with pytest.raises(IllegalStateError):
        await first.commit({other: (1, "")})


async def test_the_first_offset_at_or_after_a_time(group: Group, members: AsyncExitStack) -> None:
    for timestamp_ms in (1_000, 3_000, 2_000, 4_000):
        group.produce(0, b"r", timestamp_ms)
    consumer = await join(group, members)
    top, empty = group.tops

    async def first(at_ms: int) -> int | None:
        found = await consumer.offsets_for_times({top: at_ms, empty: at_ms})
        assert found[empty] is None
        return None if found[top] is None else int(found[top].offset)

    assert [await first(at_ms) for at_ms in (0, 1_000, 1_001, 2_000, 3_500, 4_001)] == [0, 0, 1, 1, 3, None]


async def test_a_consumer_without_a_group_reads_what_it_is_assigned(group: Group, members: AsyncExitStack) -> None:
    for number in range(4):
        group.produce(0, b"%d" % number)
        group.produce(1, b"%d" % number)
    reader = group.reader()
    await reader.start()
    members.push_async_callback(reader.stop)
    reader.assign(group.tops)
    for top in group.tops:
        reader.seek(top, 2)
    found = await read(reader, 4)
    assert sorted((r.partition, r.offset) for r in found) == [(0, 2), (0, 3), (1, 2), (1, 3)]
    reader.assign(group.tops[1:])
    assert reader.assignment() == {group.tops[1]}
    reader.seek(group.tops[1], 3)
    assert [(r.partition, r.offset) for r in await read(reader, 1)] == [(1, 3)]
    assert await reader.position(group.tops[1]) == 4


async def test_a_consumer_without_a_group_learns_of_deleted_records(group: Group, members: AsyncExitStack) -> None:
    for _ in range(4):
        group.produce(0, b"r")
    group.delete_before(0, 3)
    top = group.tops[0]
    reader = group.reader()
    await reader.start()
    members.push_async_callback(reader.stop)
    reader.assign([top])
    reader.seek(top, 1)
    with pytest.raises(OffsetOutOfRangeError) as failed:
        await read(reader, 1)
    assert failed.value.args[0] == {top: 1}
    assert await reader.beginning_offsets([top]) == {top: 3}
    reader.seek(top, 3)
    assert [record.offset for record in await read(reader, 1)] == [3]


async def test_a_position_beyond_the_end_is_out_of_range(group: Group, members: AsyncExitStack) -> None:
    group.produce(0, b"r")
    top = group.tops[0]
    reader = group.reader()
    await reader.start()
    members.push_async_callback(reader.stop)
    reader.assign([top])
    reader.seek(top, 5)
    with pytest.raises(OffsetOutOfRangeError) as failed:
        await read(reader, 1)
    assert failed.value.args[0] == {top: 5}


async def test_the_position_passes_the_end_of_a_transaction(group: Group, members: AsyncExitStack) -> None:
    group.transact(0, b"r")
    top = group.tops[0]
    reader = group.reader()
    await reader.start()
    members.push_async_callback(reader.stop)
    reader.assign([top])
    reader.seek(top, 0)
    await read(reader, 1)
    async with asyncio.timeout(WAIT_S):
        while await reader.position(top) < 2:
            assert await reader.getmany(timeout_ms=100, max_records=9) == {}
    assert reader.highwater(top) == 2
    assert reader.partitions_for_topic(group.topic) == {0, 1}
    assert reader.last_poll_timestamp(top) > 0
