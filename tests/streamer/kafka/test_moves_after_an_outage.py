"""Partitions with gaps and isolated records move between workers that die, while commits fail; on a virtual clock."""

import asyncio
import random
from collections.abc import Mapping

import pytest
from aiokafka import TopicPartition

from streamer.kafka.answered_ranges import parse
from streamer.settings import Settings
from streamer.testing.consumer_group import FakeGroup
from streamer.testing.virtual_loop import run_virtual
from tests.streamer.kafka.test_handovers import Worker, only, until_committed
from tests.streamer.kafka.test_rebalances import WatchedGroup

OLD_S = 60.0
SETTINGS = Settings.model_validate(
    {
        "source": {"topic": "t", "budget_ms": 200.0, "max_in_flight_records": 12, "max_unacknowledged_records": 24},
        "offsets": {"max_uncommitted_records": 60},
        "service": {"drain_ms": 5000},
    }
)


class Group(WatchedGroup):
    """Rejects a commit whose offset or ranges name a record without an answer, and counts those of isolated records."""

    isolated = 0

    def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        FakeGroup.commit(self, offsets)
        answered = set(self.answered)
        for top, (offset, metadata) in offsets.items():
            self.isolated += "careful" in metadata
            for start, end in ((0, offset), *parse(metadata)[1]):
                assert {(top.partition, n) for n in range(start, end)} <= answered, f"{top}: {start}-{end}"

    def write(self, rng: random.Random) -> None:
        """Some live records, and sometimes the backlog of an outage."""
        now = asyncio.get_running_loop().time()
        for _ in range(rng.randrange(15)):
            self.produce(rng.randrange(3), b"r", round(now * 1e3))
        if rng.random() < 0.25:
            number = rng.randrange(3)
            for _ in range(rng.randrange(200)):
                self.produce(number, b"r", round((now - OLD_S) * 1e3))


@pytest.mark.parametrize("seed", range(6))
def test_no_record_is_lost(seed: int) -> None:
    rng = random.Random(seed)

    async def moves() -> None:
        group = Group(partitions=3)
        async with asyncio.TaskGroup() as tasks:

            def new() -> Worker:
                return Worker(group, tasks, lambda: rng.uniform(0.001, 0.2), SETTINGS)

            workers = [new(), new()]
            owner = {number: rng.choice(workers) for number in range(3)}
            for number, worker in owner.items():
                await worker.source.open(only(group, number))

            async def move(number: int) -> None:
                await owner[number].source.release(only(group, number))
                owner[number] = rng.choice(workers)
                await owner[number].source.open(only(group, number))

            async def die(number: int) -> None:
                dead, workers[number] = workers[number], new()
                dead.die()
                taken = [each for each in owner if owner[each] is dead]
                owner.update(dict.fromkeys(taken, workers[number]))
                await workers[number].source.open(only(group, *taken))

            for _ in range(60):
                group.write(rng)
                rng.choice(workers).fails = rng.choice([0, 0, 1, 3])
                await asyncio.sleep(rng.uniform(0.0, 0.4))
                if rng.random() < 0.5:
                    await asyncio.gather(*(move(number) for number in rng.sample(range(3), rng.randint(1, 2))))
                else:
                    # Deaths without progress in between isolate a partition.
                    for _ in range(rng.choice([1, 1, 5])):
                        await die(rng.randrange(2))
            await until_committed(group)
            for worker in workers:
                worker.die()
        assert set(group.answered) == {(top.partition, n) for top, log in group.logs.items() for n in range(len(log))}
        assert group.isolated > 0

    run_virtual(moves)
