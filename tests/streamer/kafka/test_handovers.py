"""Partitions move between supervised workers on a virtual clock, one by one, while the workers go on reading."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import structlog
from aiokafka import TopicPartition

from streamer.assembly import Assembly
from streamer.kafka.assigned_consumer import AssignedConsumer
from streamer.kafka.offsets import OffsetTracker
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.settings.sections import DeliverySettings
from streamer.tasks import TaskOwner
from streamer.testing.consumer_group import FakeConsumer, FakeGroup
from streamer.testing.virtual_loop import run_virtual, virtual
from streamer.types import Partition, Record
from tests.streamer.kafka.test_rebalances import WatchedGroup

SETTINGS = Settings.model_validate(
    {
        "source": {"topic": "t", "max_in_flight_records": 12, "max_unacknowledged_records": 24},
        "service": {"drain_ms": 5000},
    }
)


class Worker:
    """A supervised worker without its scoring stages. Its answers are acknowledged after `seconds`."""

    def __init__(
        self,
        group: WatchedGroup,
        tasks: asyncio.TaskGroup,
        seconds: Callable[[], float],
        settings: Settings = SETTINGS,
    ) -> None:
        self._group, self._tasks, self._seconds = group, tasks, seconds
        self.fails = 0
        clock = asyncio.get_running_loop().time
        self._owner = TaskOwner()
        assembly = Assembly(settings, Metrics(), structlog.get_logger(), clock, self._owner.spawn)
        consumer = AssignedConsumer(FakeConsumer(group, is_member=False), self._commit)
        self.source = assembly.source(
            consumer,
            OffsetTracker(),
            group.commits_of,
            wall_clock=clock,
            backlog_consumer=lambda: FakeConsumer(group, is_member=False),
        )
        self.running = [
            tasks.create_task(work)
            for work in (
                self._read(self.source.chunks()),
                self._read(self.source.backlog.chunks()),
                self._commit_loop(),
            )
        ]

    async def _commit(self, offsets: Mapping[Partition, tuple[int, str]]) -> bool:
        await asyncio.sleep(0.002)
        if self.fails:
            self.fails -= 1
            raise ConnectionError("no coordinator")
        self._group.commit({TopicPartition(*partition): at for partition, at in offsets.items()})
        return True

    async def _read(self, chunks: AsyncIterator[list[Record]]) -> None:
        async for chunk in chunks:
            for record in chunk:
                self.running.append(self._tasks.create_task(self._answer(record)))

    async def _answer(self, record: Record) -> None:
        self.source.answered()
        await asyncio.sleep(self._seconds())
        self._group.answered.append((record.origin.partition, record.origin.offset))
        self.source.acknowledged(record.origin)

    async def _commit_loop(self) -> None:
        while True:
            await self.source.commit_when_due()

    def die(self) -> None:
        """Ends without a word."""
        for task in self.running:
            task.cancel()


def only(group: WatchedGroup, *numbers: int) -> frozenset[Partition]:
    return frozenset((group.tops[n].topic, n) for n in numbers)


async def until_committed(group: WatchedGroup) -> None:
    async with asyncio.timeout(120.0):
        while not group.is_all_committed:  # noqa: ASYNC110  a virtual clock
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("seed", range(5))
def test_moves_lose_and_repeat_no_record(seed: int) -> None:
    rng = random.Random(seed)

    async def moves() -> None:
        clock = asyncio.get_running_loop().time
        group = WatchedGroup(partitions=6)
        async with asyncio.TaskGroup() as tasks:
            workers = [Worker(group, tasks, lambda: rng.uniform(0.001, 0.3)) for _ in range(3)]
            owner = {number: rng.choice(workers) for number in range(6)}
            for number, worker in owner.items():
                assert await worker.source.open(only(group, number)) == only(group, number)

            async def move(number: int) -> None:
                assert await owner[number].source.release(only(group, number)) == 0
                owner[number] = rng.choice(workers)
                await owner[number].source.open(only(group, number))

            for _ in range(40):
                for _ in range(rng.randrange(40)):
                    group.produce(rng.randrange(6), b"r", round(clock() * 1e3))
                await asyncio.sleep(rng.uniform(0.0, 0.3))
                await asyncio.gather(*(move(number) for number in rng.sample(range(6), rng.randint(1, 4))))
            await until_committed(group)
            for worker in workers:
                worker.die()
        produced = sorted((top.partition, n) for top, log in group.logs.items() for n in range(len(log)))
        assert sorted(group.answered) == produced

    run_virtual(moves)


class Unwatched(WatchedGroup):
    """Accepts each commit, as one of `at_most_once` comes before the answer."""

    def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        FakeGroup.commit(self, offsets)


@pytest.mark.parametrize("seed", range(5))
def test_at_most_once_moves_lose_no_record_and_deaths_repeat_none(seed: int) -> None:
    rng = random.Random(seed)
    settings = SETTINGS.model_copy(update={"delivery": DeliverySettings(guarantee="at_most_once")})

    async def moves() -> None:
        clock = asyncio.get_running_loop().time
        group = Unwatched(partitions=4)
        async with asyncio.TaskGroup() as tasks:

            def new() -> Worker:
                return Worker(group, tasks, lambda: rng.uniform(0.001, 0.3), settings)

            workers = [new() for _ in range(3)]
            owner = {number: rng.choice(workers) for number in range(4)}
            for number, worker in owner.items():
                await worker.source.open(only(group, number))

            async def move(number: int) -> None:
                assert await owner[number].source.release(only(group, number)) == 0
                owner[number] = rng.choice(workers)
                await owner[number].source.open(only(group, number))

            async def work(rounds: int, failing_share: float) -> None:
                for _ in range(rounds):
                    for _ in range(rng.randrange(30)):
                        group.produce(rng.randrange(4), b"r", round(clock() * 1e3))
                    rng.choice(workers).fails = int(rng.random() < failing_share)
                    await asyncio.sleep(rng.uniform(0.0, 0.3))
                    await asyncio.gather(*(move(number) for number in rng.sample(range(4), rng.randint(1, 3))))

            await work(20, failing_share=0.3)
            await asyncio.sleep(30.0)
            assert sorted(group.answered) == [
                (top.partition, n) for top, log in group.logs.items() for n in range(len(log))
            ]
            for number in range(len(workers)):
                await work(3, failing_share=0.3)
                dead, workers[number] = workers[number], new()
                dead.die()
                taken = [each for each in owner if owner[each] is dead]
                owner.update(dict.fromkeys(taken, workers[number]))
                await workers[number].source.open(only(group, *taken))
            await asyncio.sleep(30.0)
            for worker in workers:
                worker.die()
        assert len(set(group.answered)) == len(group.answered)

    run_virtual(moves)


@pytest.mark.parametrize("seed", range(5))
def test_deaths_at_any_moment_of_a_move_lose_no_record(seed: int) -> None:
    rng = random.Random(seed)

    async def deaths() -> None:
        clock = asyncio.get_running_loop().time
        group = WatchedGroup(partitions=2)
        async with asyncio.TaskGroup() as tasks:

            def new() -> Worker:
                return Worker(group, tasks, lambda: rng.uniform(0.001, 0.1))

            worker = new()
            for _ in range(40):
                for _ in range(rng.randrange(20)):
                    group.produce(rng.randrange(2), b"r", round(clock() * 1e3))
                opening = tasks.create_task(worker.source.open(only(group, 0, 1)))
                await asyncio.sleep(rng.choice((0.0, 0.001, 0.003, 0.2, 1.0)))
                releasing = tasks.create_task(worker.source.release(only(group, 0, 1)))
                await asyncio.sleep(rng.choice((0.0, 0.001, 0.003, 0.05, 1.0)))
                opening.cancel()
                releasing.cancel()
                worker.die()
                worker = new()
            await worker.source.open(only(group, 0, 1))
            await until_committed(group)
            worker.die()
        produced = {(top.partition, n) for top, log in group.logs.items() for n in range(len(log))}
        assert set(group.answered) == produced

    run_virtual(deaths)


@virtual
async def test_a_release_stops_no_other_partition() -> None:
    group = WatchedGroup(partitions=2)
    async with asyncio.TaskGroup() as tasks:
        worker = Worker(group, tasks, lambda: 1.0)
        await worker.source.open(only(group, 0, 1))
        group.produce(0, b"slow", 0)
        await asyncio.sleep(0.1)
        releasing = tasks.create_task(worker.source.release(only(group, 0)))
        await asyncio.sleep(0.1)
        group.produce(1, b"r", 0)
        await asyncio.sleep(0.1)
        assert worker.source.unacknowledged == 2, "partition 1 is read while partition 0 drains"
        assert await releasing == 0
        await until_committed(group)
        worker.die()


@virtual
async def test_a_release_does_not_wait_for_another_partition_that_cannot_be_opened() -> None:
    group = WatchedGroup(partitions=2)
    async with asyncio.TaskGroup() as tasks:
        worker = Worker(group, tasks, lambda: 0.01)
        await worker.source.open(only(group, 0))
        worker.fails = 1
        opening = tasks.create_task(worker.source.open(only(group, 1)))
        await asyncio.sleep(0.1)
        assert await asyncio.wait_for(worker.source.release(only(group, 0)), 0.1) == 0
        assert not opening.done()
        assert await opening == only(group, 1), "it is retried"
        worker.die()


@virtual
async def test_a_release_ends_the_retries_of_an_opening() -> None:
    group = WatchedGroup(partitions=1)
    async with asyncio.TaskGroup() as tasks:
        worker = Worker(group, tasks, lambda: 0.01)
        worker.fails = 1_000
        opening = tasks.create_task(worker.source.open(only(group, 0)))
        await asyncio.sleep(2.5)
        assert await asyncio.wait_for(worker.source.release(only(group, 0)), 1.5) == 0
        assert await opening == frozenset(), "it is not read"
        worker.die()


@virtual
async def test_records_that_are_not_answered_in_time_are_counted_and_read_by_the_next_worker() -> None:
    group = WatchedGroup(partitions=1)
    async with asyncio.TaskGroup() as tasks:
        worker, other = Worker(group, tasks, lambda: 60.0), Worker(group, tasks, lambda: 0.01)
        await worker.source.open(only(group, 0))
        group.produce(0, b"r", 0)
        await asyncio.sleep(0.2)
        began = asyncio.get_running_loop().time()
        assert await worker.source.release(only(group, 0)) == 1
        assert asyncio.get_running_loop().time() - began == pytest.approx(5.0, abs=0.1)
        await other.source.open(only(group, 0))
        await until_committed(group)
        worker.die()
        other.die()


@virtual
async def test_a_partition_whose_opening_was_given_up_leaves_nothing_behind() -> None:
    """Its workers died repeatedly, so the first attempt isolates it."""
    group = WatchedGroup(partitions=2)
    group.produce(0, b"kills", 0)
    group.commit({group.tops[0]: (0, "ctr-streamer:running deaths 9 at 0")})
    async with asyncio.TaskGroup() as tasks:
        worker = Worker(group, tasks, lambda: 0.01)
        await worker.source.open(only(group, 1))
        worker.fails = 1_000
        opening = tasks.create_task(worker.source.open(only(group, 0)))
        await asyncio.sleep(2.5)
        await worker.source.release(only(group, 0))
        assert await opening == frozenset()
        worker.fails = 0
        assert not worker.source.delivery.is_isolating
        for _ in range(20):
            group.produce(1, b"r", 0)
        await asyncio.sleep(1.0)
        assert sorted(group.answered) == [(1, n) for n in range(20)], "the other partition is read"
        worker.die()


@virtual
async def test_a_release_that_comes_before_the_opening_has_begun_prevents_it() -> None:
    group = WatchedGroup(partitions=2)
    async with asyncio.TaskGroup() as tasks:
        worker = Worker(group, tasks, lambda: 0.01)
        await worker.source.open(only(group, 1))
        consumer = worker.source.consumer
        async with consumer._one_at_a_time:  # noqa: SLF001  the position of partition 1 is being reset
            first = tasks.create_task(worker.source.open(only(group, 0)))
            await asyncio.sleep(0.1)
            releasing = tasks.create_task(worker.source.release(only(group, 0)))
            await asyncio.sleep(0.1)
        assert await releasing == 0
        assert first.done()
        assert first.result() == frozenset()
        assert group.tops[0] not in group.commits, "another worker may have it now"
        assert consumer.assignment() == {group.tops[1]}
        # It may come back.
        assert await worker.source.open(only(group, 0)) == only(group, 0)
        worker.die()


@virtual
async def test_an_isolated_record_whose_commit_fails_is_no_busy_loop() -> None:
    group = WatchedGroup(partitions=1)
    for _ in range(3):
        group.produce(0, b"r", 0)
    group.commit({group.tops[0]: (0, "ctr-streamer:careful until 3")})
    async with asyncio.TaskGroup() as tasks:
        worker = Worker(group, tasks, lambda: 0.1)
        await worker.source.open(only(group, 0))
        while not worker.source.unacknowledged:  # noqa: ASYNC110  a virtual clock
            await asyncio.sleep(0.01)
        worker.fails = 10_000
        await asyncio.sleep(2.0)
        assert group.answered == [(0, 0)], "the mark still names it"
        assert 10_000 - worker.fails < 50
        worker.fails = 0
        await until_committed(group)
        worker.die()
    assert group.answered == [(0, 0), (0, 1), (0, 2)]
