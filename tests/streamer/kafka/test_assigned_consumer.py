"""The consumer of a supervised worker, on the group in memory and on a real broker."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiokafka.errors import CommitFailedError, KafkaError

from streamer.kafka.assigned_consumer import AssignedConsumer
from streamer.types import Partition
from tests.streamer.testing.test_consumer_group import Group, group, members, read

__all__ = ["group", "members"]


async def started(
    group: Group, members: AsyncExitStack, commit: Callable[[Mapping[Partition, Any]], Any] | None = None
) -> AssignedConsumer:
    async def stored(_: Mapping[Partition, Any]) -> bool:
        return True

    consumer = AssignedConsumer(group.reader(), commit or stored)
    await consumer.start()
    members.push_async_callback(consumer.stop)
    return consumer


async def nothing(consumer: AssignedConsumer) -> bool:
    found: dict[Any, Any] = await asyncio.wait_for(consumer.getmany(timeout_ms=300, max_records=100), 30.0)
    return not found


def offsets(records: Iterable[Any]) -> list[tuple[int, int]]:
    return sorted((record.partition, record.offset) for record in records)


async def test_a_partition_is_read_from_its_first_seek_on(group: Group, members: AsyncExitStack) -> None:
    group.produce(0, b"a")
    group.produce(0, b"b")
    consumer = await started(group, members)
    assert await nothing(consumer), "it has no partition yet"
    await consumer.add([group.tops[0]])
    assert await nothing(consumer)
    consumer.seek(group.tops[0], 1)
    assert offsets(await read(consumer, 1)) == [(0, 1)]


async def test_a_change_repeats_and_loses_no_record_of_the_others(group: Group, members: AsyncExitStack) -> None:
    first, second = group.tops
    for _ in range(6):
        group.produce(0, b"r")
    consumer = await started(group, members)
    await consumer.add([first])
    consumer.seek(first, 0)
    found = await read(consumer, 2, most=2)
    await consumer.add([second])
    found += await read(consumer, 2, most=2)
    group.produce(1, b"r")
    consumer.seek(second, 0)
    while (1, 0) not in offsets(found):
        found += await read(consumer, 1, most=1)
    await consumer.remove([second])
    assert consumer.assignment() == {first}
    while len(found) < 7:
        found += await read(consumer, 1, most=1)
    assert set(offsets(found)) == {(0, n) for n in range(6)} | {(1, 0)}
    assert len(found) == 7


async def test_a_paused_partition_stays_paused(group: Group, members: AsyncExitStack) -> None:
    first, second = group.tops
    group.produce(0, b"r")
    group.produce(1, b"r")
    consumer = await started(group, members)
    await consumer.add([first])
    consumer.seek(first, 0)
    consumer.pause(first)
    await consumer.add([second])
    consumer.seek(second, 0)
    assert consumer.paused() == {first}
    assert offsets(await read(consumer, 1)) == [(1, 0)]
    await consumer.remove([second])
    assert await nothing(consumer)
    consumer.resume(first)
    assert offsets(await read(consumer, 1)) == [(0, 0)]


async def test_without_partitions_it_reads_nothing_until_it_gets_one_again(
    group: Group, members: AsyncExitStack
) -> None:
    top = group.tops[0]
    consumer = await started(group, members)
    await consumer.add([top])
    consumer.seek(top, 0)
    reading = asyncio.create_task(read(consumer, 1))
    await consumer.remove([top])
    group.produce(0, b"r")
    await asyncio.sleep(0.1)
    assert not reading.done()
    await consumer.add([top])
    consumer.seek(top, 0)
    assert offsets(await reading) == [(0, 0)]


async def test_it_commits_through_the_supervisor(group: Group, members: AsyncExitStack) -> None:
    asked: list[Mapping[Partition, tuple[int, str]]] = []

    async def commit(wanted: Mapping[Partition, tuple[int, str]]) -> bool:
        asked.append(wanted)
        if len(asked) == 3:
            raise ConnectionError("the supervisor has ended")
        return len(asked) == 1

    consumer = await started(group, members, commit)
    top = group.tops[0]
    await consumer.commit({top: (3, "mine")})
    assert asked == [{(group.topic, 0): (3, "mine")}]
    with pytest.raises(CommitFailedError):
        await consumer.commit({top: (4, "mine")})
    with pytest.raises(KafkaError, match="has ended"):
        await consumer.commit({top: (4, "mine")})
