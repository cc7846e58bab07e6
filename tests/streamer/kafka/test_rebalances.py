"""Repeated rebalances on a virtual clock: no record is lost, and no partition stays unread."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException, KafkaError, UnsupportedCodecError

from streamer.assembly import Assembly
from streamer.deadline import Deadline
from streamer.kafka.offsets import OffsetTracker
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.tasks import TaskOwner
from streamer.testing.consumer_group import FakeConsumer, FakeGroup
from streamer.testing.virtual_loop import run_virtual, virtual
from streamer.types import Record

DRAIN_S = 2.0
SETTINGS = Settings.model_validate(
    {
        "source": {"topic": "t", "max_in_flight_records": 12, "max_unacknowledged_records": 24},
        "service": {"drain_ms": DRAIN_S * 1e3},
    }
)


class WatchedGroup(FakeGroup):
    """Records all answers, and rejects a commit above a record without one."""

    def __init__(self, partitions: int) -> None:
        super().__init__("t", partitions)
        self.answered: list[tuple[int, int]] = []

    def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        answered = set(self.answered)
        for top, (offset, _) in offsets.items():
            assert {(top.partition, n) for n in range(offset)} <= answered, f"{top}: {offset} is too far"
        super().commit(offsets)

    @property
    def is_all_committed(self) -> bool:
        return all(self.commits.get(top, (0, ""))[0] == len(log) for top, log in self.logs.items())


class Member:
    """A worker without its scoring stages. Its answers are acknowledged after `seconds`."""

    def __init__(self, group: WatchedGroup, tasks: asyncio.TaskGroup, seconds: Callable[[], float]) -> None:
        self._group, self._tasks = group, tasks
        self.seconds = seconds
        self.metrics = Metrics()
        self.consumer = FakeConsumer(group)
        self.offsets = OffsetTracker()
        clock = asyncio.get_running_loop().time
        assembly = Assembly(SETTINGS, self.metrics, structlog.get_logger(), clock, TaskOwner().spawn)
        self.source = assembly.source(self.consumer, self.offsets, group.commits_of, wall_clock=clock)

    async def start(self) -> list[asyncio.Task[None]]:
        await self.source.start()
        return [self._tasks.create_task(self._read()), self._tasks.create_task(self._commit())]

    async def _read(self) -> None:
        async for chunk in self.source.chunks():
            assert self.offsets.unacknowledged <= SETTINGS.source.max_unacknowledged_records
            for record in chunk:
                self._tasks.create_task(self._answer(record))

    async def _answer(self, record: Record) -> None:
        await asyncio.sleep(0.001)
        self.source.answered()
        await asyncio.sleep(self.seconds())
        self._group.answered.append((record.origin.partition, record.origin.offset))
        self.source.acknowledged(record.origin)

    async def _commit(self) -> None:
        while True:
            await self.source.commit_when_due()
            self.source.lag.measure()


@asynccontextmanager
async def started(group: WatchedGroup, *seconds: Callable[[], float]) -> AsyncIterator[list[Member]]:
    """Starts the members of a group; at the end each releases its partitions in order."""
    async with asyncio.TaskGroup() as tasks:
        members = [Member(group, tasks, each) for each in seconds]
        running = [await member.start() for member in members]
        yield members
        now = asyncio.get_running_loop().time()
        for member, (reading, committing) in zip(members, running, strict=True):
            member.source.close()
            await reading
            assert await member.source.join(Deadline.after(now, 60e3))
            committing.cancel()
            await member.source.leave()


@pytest.mark.parametrize("seed", range(5))
def test_many_rebalances_lose_no_record(seed: int) -> None:
    rng = random.Random(seed)

    def seconds() -> float:
        # One record in fifty takes longer than a revocation waits.
        return rng.uniform(2.0, 6.0) if rng.random() < 0.02 else rng.uniform(0.001, 0.05)

    async def storm() -> None:
        clock = asyncio.get_running_loop().time
        group = WatchedGroup(partitions=6)
        longest = 0.0
        async with started(group, seconds, seconds, seconds) as members:
            for _ in range(60):
                for _ in range(rng.randrange(60)):
                    group.produce(rng.randrange(6), b"r", round(clock() * 1e3))
                await asyncio.sleep(rng.uniform(0.0, 0.5))
                began = clock()
                await group.rebalance(rng.sample(members_of(members), rng.randint(1, 3)))
                longest = max(longest, clock() - began)
            await group.rebalance(members_of(members))
            async with asyncio.timeout(120.0):
                while not group.is_all_committed:  # noqa: ASYNC110  a virtual clock
                    await asyncio.sleep(0.1)
        produced = {(top.partition, n) for top, log in group.logs.items() for n in range(len(log))}
        assert set(group.answered) == produced
        assert DRAIN_S * 0.9 < longest < DRAIN_S + 0.1, (
            "some partitions were revoked before they were drained, none later"
        )
        marks = {group.plain_commit(top.partition)[1] for top in group.tops}
        assert marks == {"ctr-streamer:clean"}

    run_virtual(storm)


def members_of(members: list[Member]) -> list[FakeConsumer]:
    return [member.consumer for member in members]


@virtual
async def test_a_revocation_waits_for_unacknowledged_records() -> None:
    clock = asyncio.get_running_loop().time
    group = WatchedGroup(partitions=1)
    async with started(group, lambda: 1.5, lambda: 0.0) as (slow, other):
        await group.rebalance([slow.consumer])
        group.produce(0, b"r")
        await asyncio.sleep(0.2)
        began = clock()
        await group.rebalance([other.consumer])
        assert clock() - began == pytest.approx(1.3, abs=0.01)
        await asyncio.sleep(5.0)
    assert group.answered == [(0, 0)], "no other worker answers it again"


@virtual
async def test_a_worker_that_stops_does_not_wait_for_records_that_nobody_answers() -> None:
    """After an error its tasks are cancelled; until it has left, the group gives its partitions to nobody."""
    clock = asyncio.get_running_loop().time
    group = WatchedGroup(partitions=1)
    async with started(group, lambda: 30.0, lambda: 0.0) as (fails, other):
        await group.rebalance([fails.consumer])
        group.produce(0, b"r")
        await asyncio.sleep(0.2)
        began = clock()
        revoking = asyncio.create_task(group.rebalance([fails.consumer, other.consumer]))
        await asyncio.sleep(0.1)
        await fails.source.stop()
        await revoking
        assert clock() - began == pytest.approx(0.1, abs=0.01)


@virtual
async def test_a_partition_without_acknowledgements_stops_no_other() -> None:
    group = WatchedGroup(partitions=3)
    async with started(group, lambda: 30.0) as (member,):
        for _ in range(60):
            group.produce(0, b"r")
        await asyncio.sleep(1.0)
        member.seconds = lambda: 0.01
        for _ in range(60):
            group.produce(1, b"r")
            group.produce(2, b"r")
        await asyncio.sleep(5.0)
        assert group.commits[group.tops[1]][0] == group.commits[group.tops[2]][0] == 60
        assert group.commits[group.tops[0]][0] == 0
        await asyncio.sleep(90.0)
        assert group.is_all_committed, "it goes on after their acknowledgements"


def lag_of(member: Member) -> dict[str, float]:
    """The lag gauge of a worker in records, by partition."""
    (family,) = member.metrics.lag.collect()
    return {sample.labels["partition"]: sample.value for sample in family.samples}


@virtual
async def test_only_the_worker_that_has_a_partition_reports_its_lag() -> None:
    group = WatchedGroup(partitions=2)
    async with started(group, lambda: 1.5, lambda: 0.0) as (slow, other):
        await group.rebalance([slow.consumer])
        for _ in range(3):
            group.produce(0, b"r")
        await asyncio.sleep(1.0)
        assert lag_of(slow) == {"0": 3.0, "1": 0.0}, "before the first answer"
        await group.rebalance([other.consumer])
        group.produce(0, b"r")
        await asyncio.sleep(1.0)
        assert lag_of(slow) == {}
        assert lag_of(other) == {"0": 0.0, "1": 0.0}


@virtual
async def test_a_record_that_is_not_drained_in_time_is_answered_by_the_next_worker() -> None:
    clock = asyncio.get_running_loop().time
    group = WatchedGroup(partitions=1)
    async with started(group, lambda: 10.0, lambda: 0.0) as (slow, other):
        await group.rebalance([slow.consumer])
        group.produce(0, b"r")
        await asyncio.sleep(0.2)
        began = clock()
        await group.rebalance([other.consumer])
        assert clock() - began == pytest.approx(DRAIN_S)
        assert slow.source.unacknowledged == 0
        await asyncio.sleep(0.1)
        assert group.answered == [(0, 0)], "at once, and not isolated: no worker has crashed"
        assert group.plain_commit(0)[1] == "ctr-streamer:running"
        await asyncio.sleep(1.0)
        assert group.is_all_committed
        await asyncio.sleep(10.0)
    assert group.answered == [(0, 0), (0, 0)]
    assert group.is_all_committed, "the late answer has changed no commit"


@virtual
async def test_records_fetched_with_those_of_a_damaged_partition_are_read_again() -> None:
    group = WatchedGroup(partitions=2)
    async with started(group, lambda: 0.01) as (member,):
        group.produce(0, b"r")
        await asyncio.sleep(1.0)
        member.consumer.failures = [UnsupportedCodecError("of another partition"), CorruptRecordException()]
        for _ in range(3):
            group.produce(0, b"r")
            group.produce(1, b"r")
        await asyncio.sleep(5.0)
        assert group.is_all_committed
    assert sorted(group.answered) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)], "each once"


@virtual
async def test_the_death_of_a_task_of_aiokafka_ends_the_worker() -> None:
    """The client keeps its partitions, and every later fetch fails with the same error."""
    group = WatchedGroup(partitions=1)

    async def work() -> None:
        async with started(group, lambda: 0.01) as (member,):
            member.consumer.failures = [KafkaError("Unexpected error during coordination")]
            group.produce(0, b"r")
            await asyncio.sleep(5.0)

    with pytest.raises(ExceptionGroup) as ended:
        await work()
    assert ended.group_contains(KafkaError, match="Unexpected error during coordination")
