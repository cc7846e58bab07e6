"""Partitions of `exactly_once` move between supervised workers, one by one, on a virtual clock."""

import asyncio
import random
from collections.abc import Awaitable, Mapping
from typing import Any

import pytest
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from streamer.assembly import Assembly
from streamer.kafka.assigned_consumer import AssignedConsumer
from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.partition_transactions import TransactionContext
from streamer.kafka.transactions import Transactions
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.tasks import TaskOwner
from streamer.testing.consumer_group import FakeConsumer, FakeGroup
from streamer.testing.virtual_loop import run_virtual, virtual
from streamer.types import Partition, Record

SETTINGS = Settings.model_validate(
    {
        "source": {"topic": "t", "max_in_flight_records": 12, "max_unacknowledged_records": 24},
        "delivery": {"guarantee": "exactly_once", "max_transaction_records": 4, "transaction_interval_ms": 100},
        "service": {"drain_ms": 5000},
    }
)


class World:
    """The group, the committed answers, and the producer of each partition that started last."""

    def __init__(self, rng: random.Random, partitions: int) -> None:
        self.rng = rng
        self.group = FakeGroup("t", partitions)
        self.answers: list[bytes] = []
        self.latest: dict[Partition, Producer] = {}
        self.failures_without_answer = 0

    @property
    def is_all_committed(self) -> bool:
        return all(self.group.commits.get(top, (0, ""))[0] == len(log) for top, log in self.group.logs.items())


class Producer:
    """A transactional producer; a later one of its partition fences it. A part of its transactions fails."""

    def __init__(self, world: World, partition: Partition) -> None:
        self._world, self._partition = world, partition
        self._sent: list[bytes] = []
        self._offsets: Mapping[TopicPartition, tuple[int, str]] = {}

    async def start(self) -> None:
        await asyncio.sleep(self._world.rng.uniform(0.0, 0.2))
        self._world.latest[self._partition] = self

    async def stop(self) -> None:
        await asyncio.sleep(0.001)

    async def begin_transaction(self) -> None:
        self._sent = []

    async def send(self, _: str, value: bytes, *__: object, **___: object) -> Awaitable[None]:
        self._sent.append(value)
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        acknowledged.set_result(None)
        return acknowledged

    async def send_offsets_to_transaction(self, offsets: Mapping[TopicPartition, tuple[int, str]], _: str) -> None:
        self._offsets = offsets

    async def commit_transaction(self) -> None:
        rng = self._world.rng
        await asyncio.sleep(rng.uniform(0.001, 0.05))
        if self._world.latest[self._partition] is not self:
            raise ProducerFenced
        outcome = 0.0 if self._world.failures_without_answer and not self._sent else rng.random()
        self._world.failures_without_answer -= outcome == 0.0
        if outcome < 0.05:
            raise KafkaError("aborted")
        self._world.group.commit(self._offsets)
        self._world.answers += self._sent
        if outcome < 0.1:
            raise KafkaError("committed, but the reply is lost")


class Worker:
    """A supervised worker without its scoring stages."""

    def __init__(self, world: World, tasks: asyncio.TaskGroup) -> None:
        self._world, self._tasks = world, tasks
        metrics, offsets, log = Metrics(), OffsetTracker(), structlog.get_logger()
        clock = asyncio.get_running_loop().time

        def producer_of(partition: Partition, _: int) -> Any:
            return Producer(world, partition)

        async def committed(partition: Partition) -> int | None:
            found = await world.group.commits_of([partition])
            return found[partition][0] if partition in found else None

        context = TransactionContext(
            producer_of,
            committed,
            offsets,
            group_id="g",
            sink=SETTINGS.sink,
            settings=SETTINGS.delivery,
            metrics=metrics,
            log=log,
        )
        self.transactions = Transactions(context)
        consumer = AssignedConsumer(FakeConsumer(world.group, is_member=False), self._commit)
        assembly = Assembly(SETTINGS, metrics, log, clock, TaskOwner().spawn)
        self.source = assembly.source(consumer, offsets, world.group.commits_of, self.transactions, wall_clock=clock)
        self.running = [tasks.create_task(work) for work in (self._read(), self._commit_loop())]

    async def _commit(self, offsets: Mapping[Partition, tuple[int, str]]) -> bool:
        await asyncio.sleep(0.002)
        self._world.group.commit({TopicPartition(*partition): at for partition, at in offsets.items()})
        return True

    async def _read(self) -> None:
        async for chunk in self.source.chunks():
            for record in chunk:
                self.running.append(self._tasks.create_task(self._answer(record)))

    async def _answer(self, record: Record) -> None:
        await asyncio.sleep(self._world.rng.uniform(0.001, 0.1))
        self.source.answered()
        origin = record.origin
        await self.transactions.publish(origin, None, f"{origin.partition}/{origin.offset}".encode(), [])
        self.source.acknowledged(origin)

    async def _commit_loop(self) -> None:
        while True:
            await self.source.commit_when_due()

    def die(self) -> None:
        """Ends without a word."""
        for task in self.running:
            task.cancel()


@pytest.mark.parametrize("seed", range(6))
def test_moves_and_deaths_answer_each_record_once(seed: int) -> None:
    rng = random.Random(seed)
    partitions = 4

    async def moves() -> None:
        clock = asyncio.get_running_loop().time
        world = World(rng, partitions)

        def only(number: int) -> frozenset[Partition]:
            return frozenset({("t", number)})

        async with asyncio.TaskGroup() as tasks:
            workers = [Worker(world, tasks) for _ in range(3)]
            owner = {number: rng.choice(workers) for number in range(partitions)}
            await asyncio.gather(*(worker.source.open(only(number)) for number, worker in owner.items()))

            async def move(number: int) -> None:
                await owner[number].source.release(only(number))
                owner[number] = rng.choice(workers)
                await owner[number].source.open(only(number))

            async def die(worker: Worker) -> None:
                worker.die()
                workers[workers.index(worker)] = successor = Worker(world, tasks)
                taken = [number for number in owner if owner[number] is worker]
                owner.update(dict.fromkeys(taken, successor))
                await successor.source.open(frozenset(("t", number) for number in taken))

            for _ in range(40):
                for _ in range(rng.randrange(30)):
                    world.group.produce(rng.randrange(partitions), b"r", round(clock() * 1e3))
                if rng.random() < 0.3:
                    world.group.end_transaction(rng.randrange(partitions))
                await asyncio.sleep(rng.uniform(0.0, 0.3))
                await asyncio.gather(*(move(number) for number in rng.sample(range(partitions), rng.randint(1, 3))))
                if rng.random() < 0.1:
                    await die(rng.choice(workers))
            async with asyncio.timeout(600.0):
                while not world.is_all_committed:  # noqa: ASYNC110  a virtual clock
                    await asyncio.sleep(0.05)
            for worker in workers:
                assert worker.transactions.at_once == worker.source.delivery.is_isolating
                worker.die()
        produced = {(top, record.offset) for top, log in world.group.logs.items() for record in log}
        expected = [f"{top.partition}/{offset}".encode() for top, offset in produced - world.group.markers]
        assert sorted(world.answers) == sorted(expected)

    run_virtual(moves)


class Fixed(random.Random):
    """All transactions have one outcome: below 0.05 they fail."""

    value = 0.5

    def random(self) -> float:
        return self.value


@virtual
async def test_a_commit_that_was_deleted_with_its_topic_is_no_sign_of_another_worker() -> None:
    rng = Fixed()
    world = World(rng, 1)
    async with asyncio.TaskGroup() as tasks:
        worker = Worker(world, tasks)
        await worker.source.open(frozenset({("t", 0)}))
        world.group.produce(0, b"r", -1)
        await asyncio.sleep(5.0)
        rng.value = 0.01
        world.group.produce(0, b"r", -1)
        await asyncio.sleep(0.5)
        assert world.answers == [b"0/0"]
        world.group.commits.clear()
        rng.value = 0.5
        await asyncio.sleep(5.0)
        assert world.answers == [b"0/0", b"0/1"]
        worker.die()


@virtual
async def test_a_failed_transaction_without_answers_does_not_stop_an_isolated_partition() -> None:
    world = World(Fixed(), 1)
    for _ in range(3):
        world.group.produce(0, b"r", -1)
        world.group.end_transaction(0)
    world.group.commits[world.group.tops[0]] = (0, "ctr-streamer:careful until 6")
    world.failures_without_answer = 2
    async with asyncio.TaskGroup() as tasks:
        worker = Worker(world, tasks)
        await worker.source.open(frozenset({("t", 0)}))
        assert worker.source.delivery.is_isolating
        await asyncio.sleep(20.0)
        assert world.answers == [b"0/0", b"0/2", b"0/4"]
        assert world.failures_without_answer == 0
        assert world.is_all_committed
        worker.die()
