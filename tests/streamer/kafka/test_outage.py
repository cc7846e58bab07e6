"""Live records and older ones after an outage, on a virtual clock: order, commits, releases and crashes."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaConnectionError

from streamer.assembly import Assembly
from streamer.deadline import Deadline
from streamer.kafka.answered_ranges import parse
from streamer.kafka.backlog_reader import BacklogReader
from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.source import Source
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.tasks import TaskOwner
from streamer.testing.consumer_group import FakeConsumer, FakeGroup
from streamer.testing.virtual_loop import run_virtual, virtual
from streamer.types import Record

OLD_S = 60.0
OLD = 1000


class WatchedGroup(FakeGroup):
    """Records all answers, and rejects a commit whose offset or ranges name a record without one."""

    def __init__(self, partitions: int = 1) -> None:
        super().__init__("t", partitions)
        self.answers: list[tuple[float, int, int]] = []
        self.readers: list[FakeConsumer] = []
        self.deleted: set[tuple[int, int]] = set()
        self.fails = False

    @property
    def answered(self) -> list[tuple[int, int]]:
        """Partition and offset of each answer, in order."""
        return [(partition, offset) for _, partition, offset in self.answers]

    @property
    def covered(self) -> set[tuple[int, int]]:
        """The records that a crash would not bring back."""
        return self._covered(dict.fromkeys(self.commits, 0))

    def _covered(self, since: Mapping[TopicPartition, int]) -> set[tuple[int, int]]:
        return {
            (top.partition, offset)
            for top, first in since.items()
            for start, end in ((first, self.commits[top][0]), *parse(self.commits[top][1])[1])
            for offset in range(start, end)
        }

    @property
    def is_all_committed(self) -> bool:
        return all(self.commits.get(top, (0, ""))[0] == len(log) for top, log in self.logs.items())

    def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        if self.fails:
            raise KafkaConnectionError("no coordinator")
        before = {top: self.commits.get(top, (0, ""))[0] for top in offsets}
        super().commit(offsets)
        assert all(self.commits[top][0] >= offset for top, offset in before.items())
        answered = {*self.answered, *self.deleted}
        assert self._covered(before) <= answered, "a record without an answer is committed"

    def delete_before(self, number: int, offset: int) -> None:
        super().delete_before(number, offset)
        self.deleted |= {(number, n) for n in range(offset)}

    def write(self, number: int, count: int, *, age_s: float = 0.0) -> None:
        now = asyncio.get_running_loop().time()
        for _ in range(count):
            self.produce(number, b"r", round((now - age_s) * 1e3))

    async def settle(self) -> None:
        """Waits until all is committed, and a little longer for a late second answer."""
        async with asyncio.timeout(300.0):
            while not self.is_all_committed:  # noqa: ASYNC110  a virtual clock
                await asyncio.sleep(0.1)
        await asyncio.sleep(5.0)

    def reader(self) -> FakeConsumer:
        self.readers.append(FakeConsumer(self, is_member=False))
        return self.readers[-1]


class Worker:
    """A worker without its scoring stages; it answers old records and live ones."""

    def __init__(self, group: WatchedGroup, seconds: Callable[[], float], **source: object) -> None:
        settings = Settings.model_validate(
            {
                "source": {"topic": "t", "budget_ms": 200.0, "max_unacknowledged_records": 64, **source},
                "offsets": {"max_uncommitted_records": 100},
                "service": {"drain_ms": 2000.0},
            }
        )
        self.group, self.seconds, self.metrics = group, seconds, Metrics()
        self.live = OffsetTracker()
        self.consumer = FakeConsumer(group)
        clock = asyncio.get_running_loop().time
        assembly = Assembly(settings, self.metrics, structlog.get_logger(), clock, TaskOwner().spawn)
        self.source = assembly.source(
            self.consumer, self.live, group.commits_of, wall_clock=clock, backlog_consumer=group.reader
        )
        self.backlog = self.source.backlog
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self.source.start()
        for work in (self._read(self.source), self._read(self.backlog), self._commit()):
            self._spawn(work)

    async def drain(self) -> None:
        """Releases all partitions in order."""
        self.source.close()
        assert await self.source.join(Deadline.after(asyncio.get_running_loop().time(), 60e3))
        await self.source.leave()
        await self.source.stop()
        self._end()

    async def crash(self) -> None:
        """Dies without a commit; the group notices it."""
        self._end()
        self.consumer.lose()
        await self.group.rebalance([member for member in self.group.members if member is not self.consumer])

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"streamer_source_{name}", labels)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _end(self) -> None:
        for task in self.tasks:
            task.cancel()

    async def _read(self, reader: Source | BacklogReader) -> None:
        async for chunk in reader.chunks():
            assert self.live.uncommitted <= 100
            for record in chunk:
                self._spawn(self._answer(record, reader))

    async def _answer(self, record: Record, reader: Source | BacklogReader) -> None:
        reader.answered()
        await asyncio.sleep(self.seconds())
        origin = record.origin
        self.group.answers.append((asyncio.get_running_loop().time(), origin.partition, origin.offset))
        reader.acknowledged(origin)

    async def _commit(self) -> None:
        while True:
            await self.source.commit_when_due()
            self.source.lag.measure()


@asynccontextmanager
async def started(group: WatchedGroup, seconds: float = 0.005, **source: object) -> AsyncIterator[Worker]:
    worker = Worker(group, lambda: seconds, **source)
    await worker.start()
    yield worker
    await worker.drain()


def once(group: WatchedGroup) -> bool:
    """Whether each record has one answer."""
    return sorted(group.answered) == [(top.partition, n) for top, log in group.logs.items() for n in range(len(log))]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60.0):
        while not condition():  # noqa: ASYNC110  a virtual clock
            await asyncio.sleep(0.001)


async def trickle(group: WatchedGroup, count: int, *, every_s: float = 0.01) -> None:
    for _ in range(count):
        group.write(0, 1)
        await asyncio.sleep(every_s)


@virtual
async def test_live_records_are_answered_at_once_and_each_record_once() -> None:
    group = WatchedGroup()
    group.write(0, OLD, age_s=OLD_S)
    async with started(group) as worker:
        await trickle(group, 50)
        assert group.commits[group.tops[0]][0] < OLD, "the commit waits for the gap"
        assert worker.metric("backlog_records") > 100  # type: ignore[operator]
        await group.settle()
        live = [at for at, _, offset in group.answers if offset >= OLD]
        assert max(live) - 1000.0 < 0.6, "they do not wait for the old ones"
        assert once(group)
        assert worker.metric("backlog_records") == 0
        assert [reader.is_started for reader in group.readers] == [False], "the second consumer has left"
    assert group.plain_commit(0) == (OLD + 50, "ctr-streamer:clean")


@virtual
async def test_the_backlog_takes_no_place_of_live_records_and_is_bounded() -> None:
    group = WatchedGroup()
    group.write(0, OLD, age_s=OLD_S)
    async with started(group, 0.5, max_backlog_records=6, max_in_flight_records=2) as worker:
        await asyncio.sleep(0.4)
        assert worker.source.offsets.unacknowledged_of_gaps == 6
        assert worker.metric("in_flight_records") == 0
        group.write(0, 8)
        await asyncio.sleep(0.05)
        assert worker.live.unacknowledged == 8
        worker.seconds = lambda: 0.001
        await group.settle()
    assert once(group)


@virtual
async def test_uncommitted_live_records_stay_bounded_while_the_gap_is_open() -> None:
    """More live records than `max_uncommitted_records` are answered before the gap ends."""
    group = WatchedGroup()
    group.write(0, OLD, age_s=OLD_S)
    async with started(group, max_backlog_records=1) as worker:
        await trickle(group, 300)
        assert worker.metric("backlog_records") > 0  # type: ignore[operator]
        assert sum(offset >= OLD for _, offset in group.answered) > 290
        await group.settle()
    assert once(group)


@virtual
async def test_uncommitted_records_of_a_gap_are_bounded_while_no_commit_is_stored() -> None:
    group = WatchedGroup()
    group.write(0, OLD, age_s=OLD_S)
    async with started(group) as worker:
        await asyncio.sleep(0.05)
        group.fails = True
        await asyncio.sleep(5.0)
        assert worker.source.offsets.uncommitted == 100
        assert len(group.answered) < 300
        group.fails = False
        await group.settle()
    assert once(group)


@virtual
async def test_a_release_in_the_middle_of_a_gap_repeats_no_answer() -> None:
    group = WatchedGroup()
    group.write(0, OLD, age_s=OLD_S)
    for _ in range(3):
        # Longer than the reader pauses: without an end of the reading, some record would always be unacknowledged.
        async with started(group, 0.05):
            await trickle(group, 20)
        (offset, metadata) = group.plain_commit(0)
        assert offset < OLD
        assert metadata.startswith("ctr-streamer:clean answered 1000-")
        await asyncio.sleep(1.0)
        group.write(0, 50)
        await asyncio.sleep(1.0)
    async with started(group):
        await trickle(group, 20)
        await group.settle()
    assert once(group)


@virtual
async def test_a_revocation_in_the_middle_of_a_gap_repeats_no_answer() -> None:
    group = WatchedGroup(partitions=2)
    group.write(0, OLD, age_s=OLD_S)
    group.write(1, OLD, age_s=OLD_S)
    async with started(group, 0.2) as first, started(group, 0.2) as second:
        for members in ([first], [second], [second, first], [first, second]):
            await trickle(group, 30)
            await group.rebalance([member.consumer for member in members])
        await group.settle()
        assert not any(reader.is_started for reader in group.readers)
    assert once(group)


@virtual
async def test_records_fetched_before_a_partition_was_lost_do_not_enter_its_next_gap() -> None:
    """They come after records that were not drained in time, and that are read again."""
    group = WatchedGroup()
    group.write(0, OLD, age_s=OLD_S)
    async with started(group, 10.0, max_backlog_records=100) as worker:
        fetched, returned = asyncio.Event(), asyncio.Event()
        while worker.source.offsets.unacknowledged < 16:  # noqa: ASYNC110  a virtual clock
            await asyncio.sleep(0.001)
        (reader,) = group.readers
        fetch = reader.getmany

        async def slow(**options: int) -> dict[TopicPartition, list[ConsumerRecord]]:
            found = await fetch(**options)
            fetched.set()
            await returned.wait()
            return found

        reader.getmany = slow  # type: ignore[method-assign]
        await fetched.wait()
        await group.rebalance([])
        worker.seconds = lambda: 0.001
        await group.rebalance([worker.consumer])
        assert worker.source.offsets.unread[("t", 0)].position == 0
        returned.set()
        await group.settle()
    assert set(group.answered) == {(0, n) for n in range(OLD)}


@virtual
async def test_a_crash_in_the_middle_of_a_gap_repeats_only_what_no_commit_covers() -> None:
    group = WatchedGroup()
    group.write(0, OLD, age_s=OLD_S)
    worker = Worker(group, lambda: 0.005)
    await worker.start()
    await trickle(group, 40)
    await worker.crash()
    assert len([offset for _, offset in group.covered if offset >= OLD]) > 10, "live records among them"
    lost = set(group.answered) - group.covered
    async with started(group):
        await group.settle()
    counts = Counter(group.answered)
    assert {record for record, count in counts.items() if count > 1} <= lost
    assert set(counts) == {(0, n) for n in range(OLD + 40)}


@pytest.mark.parametrize("seed", range(5))
def test_rebalances_and_outages_answer_each_record_once(seed: int) -> None:
    rng = random.Random(seed)

    async def storm() -> None:
        group = WatchedGroup(partitions=3)
        for number in range(3):
            group.write(number, rng.randrange(OLD), age_s=OLD_S)
        workers = [Worker(group, lambda: rng.uniform(0.001, 0.3)) for _ in range(2)]
        for worker in workers:
            await worker.start()
        members = [worker.consumer for worker in workers]
        for _ in range(25):
            for number in range(3):
                group.write(number, rng.randrange(20))
            await asyncio.sleep(rng.uniform(0.0, 0.6))
            await group.rebalance(rng.sample(members, rng.randint(0, 2)))
            if rng.random() < 0.3:
                for number in range(3):
                    group.write(number, rng.randrange(OLD // 2))
                await asyncio.sleep(rng.uniform(0.3, 3.0))
        await group.rebalance(members)
        await group.settle()
        assert once(group)
        for worker in workers:
            assert worker.source.offsets.uncommitted == worker.source.unacknowledged == 0
            await worker.drain()
        assert not any(reader.is_started for reader in group.readers)

    run_virtual(storm)


@virtual
async def test_a_failed_fetch_is_retried_and_counted() -> None:
    group = WatchedGroup()
    group.write(0, OLD, age_s=OLD_S)
    async with started(group) as worker:
        await asyncio.sleep(0.1)
        group.readers[0].failures = [KafkaConnectionError("the broker is away")]
        await group.settle()
        assert worker.metric("fetch_failures_total") == 1
        assert len(group.readers) == 2, "by a new consumer"
    assert once(group)


@pytest.mark.parametrize("kept_from", [OLD // 2, OLD, OLD + 10])
def test_records_that_the_retention_deletes_are_passed_over_and_counted(kept_from: int) -> None:
    async def deletion() -> None:
        group = WatchedGroup()
        group.write(0, OLD, age_s=OLD_S)
        group.write(0, 20)
        async with started(group) as worker:
            await asyncio.sleep(0.1)
            read = worker.source.offsets.unread[("t", 0)].position
            group.delete_before(0, kept_from)
            await group.settle()
            assert worker.metric("skipped_records_total", reason="deleted") == min(kept_from, OLD) - read
        assert len(group.answered) == len(set(group.answered))
        assert {n for _, n in group.answered} >= set(range(kept_from, OLD + 20))

    run_virtual(deletion)


@virtual
async def test_a_skipped_backlog_is_committed_at_once() -> None:
    group = WatchedGroup()
    group.write(0, OLD, age_s=OLD_S)
    group.deleted = {(0, n) for n in range(OLD)}
    async with started(group, backlog="skip") as worker:
        group.write(0, 3)
        assert group.plain_commit(0) == (OLD, "ctr-streamer:running")
        await group.settle()
        assert worker.metric("skipped_records_total", reason="backlog") == OLD
    assert group.answered == [(0, OLD), (0, OLD + 1), (0, OLD + 2)]
    assert group.readers == []


@virtual
async def test_an_isolated_partition_pauses_the_backlog_of_the_others() -> None:
    group = WatchedGroup(partitions=2)
    group.write(0, OLD, age_s=OLD_S)
    group.write(1, 5)
    group.commits[group.tops[1]] = (0, "ctr-streamer:careful until 5")
    async with started(group, 0.1) as worker:
        most = 0
        while worker.source.delivery.is_isolating:
            most = max(most, worker.source.unacknowledged)
            await asyncio.sleep(0.001)
        assert most == 1
        await group.settle()
    assert once(group)


@virtual
async def test_an_isolated_partition_is_read_without_the_records_that_are_answered() -> None:
    group = WatchedGroup()
    group.write(0, 10, age_s=OLD_S)
    group.answers = [(0.0, 0, n) for n in (3, 4, 5)]
    group.commits[group.tops[0]] = (0, "ctr-streamer:careful until 10 answered 3-6")
    async with started(group):
        await group.settle()
    assert once(group)
    assert group.readers == []


@pytest.mark.parametrize("end", [6, 10])
def test_no_commit_passes_over_the_records_before_those_that_are_answered(end: int) -> None:
    """The isolation ends at offset 1. Then the others come in one chunk."""

    async def read() -> None:
        group = WatchedGroup()
        group.write(0, 10, age_s=OLD_S)
        group.answers = [(0.0, 0, n) for n in range(3, end)]
        group.commits[group.tops[0]] = (0, f"ctr-streamer:careful until 1 answered 3-{end}")
        async with started(group, 1.0):
            await group.settle()
        assert once(group)

    run_virtual(read)


@virtual
async def test_records_of_a_gap_that_were_fetched_before_an_isolation_wait() -> None:
    group = WatchedGroup(partitions=2)
    group.write(0, OLD, age_s=OLD_S)
    async with started(group, 0.1) as worker:
        returned = asyncio.Event()
        await until(lambda: bool(group.readers))
        (reader,) = group.readers
        fetch = reader.getmany

        async def slow(**options: int) -> dict[TopicPartition, list[ConsumerRecord]]:
            found = await fetch(**options)
            await returned.wait()
            return found

        reader.getmany = slow  # type: ignore[method-assign]
        await until(lambda: not worker.source.unacknowledged)
        worker.consumer.pause(group.tops[1])  # until it is opened again
        group.write(1, 5)
        isolated = {("t", 1): (0, "ctr-streamer:careful until 5")}
        group.commits |= {TopicPartition(*partition): at for partition, at in isolated.items()}
        await worker.source.delivery.open(isolated)
        await until(lambda: worker.source.unacknowledged > 0)
        returned.set()
        most = 0
        while worker.source.delivery.is_isolating:
            most = max(most, worker.source.unacknowledged)
            await asyncio.sleep(0.001)
        assert most == 1, "the isolated record is alone in flight"
        await group.settle()
    assert once(group)


@virtual
async def test_the_rest_of_a_range_of_answered_records_is_not_fetched() -> None:
    group = WatchedGroup()
    group.write(0, 2000, age_s=OLD_S)
    group.answers = [(0.0, 0, n) for n in range(50, 1990)]
    group.commits[group.tops[0]] = (0, "ctr-streamer:clean answered 50-1990")
    async with started(group):
        await asyncio.sleep(1.0)
        assert group.is_all_committed
    assert once(group)


@virtual
async def test_a_busy_event_loop_slows_the_backlog() -> None:
    """The clock of the reader jumps ahead, as if other work had delayed each wake-up."""
    rates = []
    for delay_s in (0.0, 0.004):
        group = WatchedGroup()
        group.write(0, OLD, age_s=OLD_S)
        async with started(group, 0.001) as worker:
            clock = worker.backlog.clock
            calls = 0

            def late(clock: Callable[[], float] = clock, delay_s: float = delay_s) -> float:
                nonlocal calls
                calls += 1
                return clock() + delay_s * calls

            worker.backlog.clock = late
            await asyncio.sleep(0.2)
            rates.append(len(group.answered))
            await group.settle()
    quiet, busy = rates
    assert busy < 0.6 * quiet
    assert busy > 20, "but it goes on"


@virtual
async def test_a_gap_that_cannot_be_read_delays_no_other_gap() -> None:
    group = WatchedGroup(partitions=2)
    group.write(0, OLD, age_s=OLD_S)
    group.write(1, OLD, age_s=OLD_S)
    group.damaged[group.tops[0]] = 100
    async with started(group) as worker:
        await until(lambda: len(group.answered) == OLD + 100)
        assert worker.metric("unreadable_partitions", partition="0") == 1
        del group.damaged[group.tops[0]]
        await group.settle()
    assert once(group)


@virtual
async def test_a_lost_partition_whose_gap_cannot_be_read_is_not_named_any_more() -> None:
    group = WatchedGroup()
    group.write(0, OLD, age_s=OLD_S)
    group.damaged[group.tops[0]] = 0
    async with started(group) as worker:
        await until(lambda: worker.metric("unreadable_partitions", partition="0") == 1)
        await group.rebalance([])
        await asyncio.sleep(60.0)
        assert worker.metric("unreadable_partitions", partition="0") is None
