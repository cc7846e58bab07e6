"""Partitions without a leader, on a virtual clock: the others are read at once, and every wait has an end."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaTimeoutError
from structlog.testing import capture_logs

from streamer.assembly import Assembly
from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.opening_attempts import Failures, OpeningAttempts
from streamer.kafka.source import Source
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.tasks import TaskOwner
from streamer.testing.consumer_group import FakeConsumer, FakeGroup
from streamer.testing.virtual_loop import virtual
from streamer.types import Partition

# Of the tests' settings: a third of the session.
FIRST_S = 2.0


class Leaderless(FakeConsumer):
    """A consumer whose requests for partitions without a leader end after 40 s, as aiokafka's."""

    def __init__(self, group: FakeGroup, *, is_member: bool = True) -> None:
        super().__init__(group, is_member=is_member)
        self.without_leader: set[int] = set()

    async def end_offsets(self, tops: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        if self.without_leader & {top.partition for top in tops}:
            await asyncio.sleep(40.0)
            raise KafkaTimeoutError("Failed to get offsets by times in 40000 ms")
        return await super().end_offsets(tops)


def source_of(consumer: Any, group: FakeGroup, metrics: Metrics) -> Source:
    settings = Settings.model_validate({"source": {"topic": "t"}, "kafka": {"session_timeout_ms": 3e3 * FIRST_S}})
    clock = asyncio.get_running_loop().time
    assembly = Assembly(settings, metrics, structlog.get_logger(), clock, TaskOwner().spawn)
    return assembly.source(consumer, OffsetTracker(), group.commits_of, wall_clock=clock)


def unreadable(metrics: Metrics) -> set[str]:
    """The partitions that the metric names."""
    (family,) = (f for f in metrics.registry.collect() if f.name == "streamer_source_unreadable_partitions")
    return {sample.labels["partition"] for sample in family.samples}


@virtual
async def test_a_partition_without_a_leader_delays_no_other_one() -> None:
    group, metrics, clock = FakeGroup("t", 4), Metrics(), asyncio.get_running_loop().time
    consumer = Leaderless(group)
    consumer.without_leader = {2}
    source = source_of(consumer, group, metrics)
    for number in range(4):
        group.produce(number, b"r", 0)
    began = clock()
    with capture_logs() as lines:
        await source.start()
        assert clock() - began <= FIRST_S, "the group waits for this callback"
        found = await anext(source.chunks())
        assert {record.origin.partition for record in found} == {0, 1, 3}
        assert clock() - began <= FIRST_S
        assert unreadable(metrics) == {"2"}
        consumer.without_leader.clear()
        (later,) = await anext(source.chunks())
    assert later.origin.partition == 2
    assert clock() - began < 10.0
    assert unreadable(metrics) == set()
    (line, *_) = [line for line in lines if line["event"] == "partitions cannot be opened, retried"]
    assert line["errors"] == {"t/2": "TimeoutError()"}
    await source.stop()


@virtual
async def test_a_partition_that_cannot_be_opened_is_released_soon() -> None:
    group, metrics, clock = FakeGroup("t", 2), Metrics(), asyncio.get_running_loop().time
    consumer = Leaderless(group)
    consumer.without_leader = {0}
    source = source_of(consumer, group, metrics)
    await source.start()
    await asyncio.sleep(20.0)  # the later attempts take longer
    began = clock()
    await group.rebalance([])
    assert clock() - began <= 2.0
    assert unreadable(metrics) == set()
    assert source.delivery.partitions == frozenset()
    await source.stop()


@virtual
async def test_the_end_of_a_worker_ends_its_attempts() -> None:
    group, metrics = FakeGroup("t", 1), Metrics()
    consumer = Leaderless(group)
    consumer.without_leader = {0}
    source = source_of(consumer, group, metrics)
    await source.start()
    await source.stop()
    await asyncio.sleep(0)
    assert {task.get_name() for task in asyncio.all_tasks()} & {"open partitions"} == set()


@virtual
async def test_the_supervisor_hears_of_the_partitions_that_are_read_while_others_are_not() -> None:
    group, metrics = FakeGroup("t", 3), Metrics()
    consumer = Leaderless(group, is_member=False)
    consumer.without_leader = {1}
    source = source_of(consumer, group, metrics)
    consumer.assign(group.tops)

    async def add(_: object) -> None:
        pass

    consumer.add = add  # type: ignore[attr-defined]
    reported: list[frozenset[Partition]] = []
    opening = asyncio.create_task(source.open(frozenset(("t", n) for n in range(3)), reported.append))
    await asyncio.sleep(FIRST_S)
    assert reported == [frozenset({("t", 0), ("t", 2)})]
    consumer.without_leader.clear()
    assert len(await opening) == 3


@virtual
async def test_attempts_end_and_any_error_is_retried() -> None:
    clock, attempts = asyncio.get_running_loop().time, list[tuple[float, float]]()

    async def open_now(new: Any, _: Mapping[Partition, Any], each_s: float) -> Failures:
        attempts.append((clock(), each_s))
        if len(attempts) < 5:
            await asyncio.sleep(1000.0)
        if len(attempts) == 5:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "of no class of Kafka")
        return {}

    async def forget(_: object) -> None:
        pass

    opening = OpeningAttempts(open_now, forget, lambda _: False, 3.0, 10.0, 30_000, Metrics(), structlog.get_logger())
    began = clock()
    await opening.finish(await opening.begin([("t", 0)]))
    assert [at - began for at, _ in attempts] == pytest.approx([0.0, 4.0, 11.0, 22.0, 33.0, 34.0])
    assert [each_s for _, each_s in attempts] == pytest.approx([1.0, 2.0, 10 / 3, 10 / 3, 10 / 3, 10 / 3])


@virtual
async def test_the_release_of_one_partition_does_not_wait_for_the_attempts_of_others() -> None:
    clock, released = asyncio.get_running_loop().time, set[Partition]()

    async def open_now(*_: object) -> Failures:
        await asyncio.sleep(1000.0)
        return {}

    async def forget(_: object) -> None:
        pass

    stops = released.__contains__
    opening = OpeningAttempts(open_now, forget, stops, 3.0, 100.0, 30_000, Metrics(), structlog.get_logger())
    attempts = asyncio.create_task(opening.finish(await opening.begin([("t", 0), ("t", 1)])))
    await asyncio.sleep(0.5)  # between two attempts
    released.add(("t", 0))
    began = clock()
    await opening.until_ended([("t", 0)])
    assert clock() - began <= 1.0
    attempts.cancel()


@virtual
async def test_a_paused_partition_that_comes_back_is_not_read_before_it_is_open() -> None:
    group, metrics = FakeGroup("t", 2), Metrics()
    consumer = Leaderless(group)
    source = source_of(consumer, group, metrics)
    for number in range(2):
        group.produce(number, b"r", 0)
    group.damaged[group.tops[0]] = 0

    async def read() -> None:
        async for chunk in source.chunks():
            for record in chunk:
                source.acknowledged(record.origin)

    await source.start()
    reading = asyncio.create_task(read())
    await asyncio.sleep(0.5)
    assert unreadable(metrics) == {"0"}
    consumer.without_leader = {0, 1}
    del group.damaged[group.tops[0]]
    rebalance = asyncio.create_task(group.rebalance([consumer]))
    await asyncio.sleep(FIRST_S / 4)
    source.backpressure.paused.add(("t", 1))
    await asyncio.sleep(FIRST_S)
    assert consumer.paused() == set(group.tops)
    await rebalance
    reading.cancel()
    await source.stop()


@virtual
async def test_a_worker_that_ends_does_not_begin_to_open_a_partition_again() -> None:
    group = FakeGroup("t", 1)
    source = source_of(FakeConsumer(group), group, Metrics())
    await source.start()
    source.close()
    await source.delivery.reopen(("t", 0), is_out_of_range=True)
    assert source.delivery.partitions == frozenset()
    assert group.plain_commit(0) == (0, "ctr-streamer:clean")
    await source.stop()


@virtual
async def test_a_partition_that_loses_its_leader_later_is_named() -> None:
    group, metrics = FakeGroup("t", 2), Metrics()
    consumer = Leaderless(group)
    source = source_of(consumer, group, metrics)
    group.produce(1, b"r", 0)
    await source.start()
    watching = asyncio.create_task(source.positions.watch())
    consumer.without_leader = {1}
    with capture_logs() as lines:
        await asyncio.sleep(40.0)
        assert unreadable(metrics) == {"1"}
        consumer.without_leader.clear()
        await asyncio.sleep(15.0)
    assert unreadable(metrics) == set()
    assert [(line["event"], line["topic"], line["partition"]) for line in lines] == [
        ("partition cannot be read, retried", "t", 1),
        ("partition readable again", "t", 1),
    ]
    watching.cancel()
    await source.stop()


@virtual
async def test_partitions_are_released_while_an_attempt_that_has_timed_out_cleans_up() -> None:
    clock, released = asyncio.get_running_loop().time, set[Partition]()

    async def open_now(*_: object) -> Failures:
        try:
            await asyncio.sleep(1000.0)
        finally:
            await asyncio.sleep(2.0)  # a producer that is stopped
        return {}

    async def forget(_: object) -> None:
        pass

    stops = released.__contains__
    opening = OpeningAttempts(open_now, forget, stops, 3.0, 100.0, 30_000, Metrics(), structlog.get_logger())

    async def attempts() -> None:
        await opening.finish(await opening.begin([("t", 0), ("t", 1)]))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(attempts())
        await asyncio.sleep(1.0)
        released.add(("t", 0))
        first = tasks.create_task(opening.until_ended([("t", 0)]))
        await asyncio.sleep(2.0)
        released.add(("t", 1))
        began = clock()
        await opening.until_ended([("t", 1)])
        await first
        assert clock() - began <= 3.0
