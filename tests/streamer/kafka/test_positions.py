"""Positions that the log does not have, offsets without a record, and the lag, on a virtual clock."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

import pytest
import structlog
from aiokafka import TopicPartition
from structlog.testing import capture_logs

from streamer.assembly import Assembly
from streamer.kafka.assigned_consumer import AssignedConsumer, Offsets
from streamer.kafka.backlog_reader import BacklogReader
from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.source import Source
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.testing.consumer_group import FakeConsumer, FakeGroup
from streamer.testing.virtual_loop import run_virtual, virtual
from streamer.types import Record

OLD = b"of the topic that was deleted"
NEW = b"of the new topic"


class Worker:
    """A worker without its scoring stages, a member of the group or supervised. It answers while `answers` is set."""

    def __init__(self, group: FakeGroup, tasks: asyncio.TaskGroup, *, is_supervised: bool, **source: object) -> None:
        settings = Settings.model_validate(
            {"source": {"topic": "t", "max_unacknowledged_records": 8, **source}, "service": {"drain_ms": 2000.0}}
        )
        self.group, self.tasks, self.metrics = group, tasks, Metrics()
        self.answered: list[tuple[int, bytes]] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.failing_commits = 0
        clock = asyncio.get_running_loop().time
        consumer: Any = FakeConsumer(group, is_member=not is_supervised)
        self.consumer = AssignedConsumer(consumer, self._commit) if is_supervised else consumer
        self.running: list[asyncio.Task[None]] = []
        assembly = Assembly(settings, self.metrics, structlog.get_logger(), clock, self._spawn)
        self.source: Source = assembly.source(
            self.consumer,
            OffsetTracker(),
            group.commits_of,
            topic_now=group.topic_now,
            wall_clock=clock,
            backlog_consumer=lambda: FakeConsumer(group, is_member=False),
        )
        for work in (
            self._read(self.source),
            self._read(self.source.backlog),
            self._commit_loop(),
            self.source.positions.watch(),
        ):
            self._spawn(work, "")

    async def open(self, *numbers: int) -> None:
        """Opens partitions of a supervised worker."""
        await self.source.open(frozenset(("t", number) for number in numbers))

    def lag(self, name: str, number: int = 0) -> float | None:
        return self.metric(f"lag_{name}", partition=str(number))

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"streamer_source_{name}", labels)

    def _spawn(self, work: Any, _: str) -> None:
        self.running.append(self.tasks.create_task(work))

    async def _commit(self, offsets: Offsets) -> bool:
        if self.failing_commits:
            self.failing_commits -= 1
            raise ConnectionError("no coordinator")
        self.group.commit({TopicPartition(*partition): at for partition, at in offsets.items()})
        return True

    async def _read(self, reader: Source | BacklogReader) -> None:
        async for chunk in reader.chunks():
            for record in chunk:
                self._spawn(self._answer(record, reader), "")

    async def _answer(self, record: Record, reader: Source | BacklogReader) -> None:
        reader.answered()
        await self.answers.wait()
        assert record.value is not None
        self.answered.append((record.origin.partition, record.value))
        reader.acknowledged(record.origin)

    async def _commit_loop(self) -> None:
        while True:
            await self.source.commit_when_due()
            self.source.lag.measure()


@asynccontextmanager
async def started(group: FakeGroup, *, is_supervised: bool = False, **source: object) -> AsyncIterator[Worker]:
    """A worker that has all partitions, and leaves at the end without a commit."""
    async with asyncio.TaskGroup() as tasks:
        worker = Worker(group, tasks, is_supervised=is_supervised, **source)
        await worker.source.start()
        if is_supervised:
            await worker.open(*(top.partition for top in group.tops))
        yield worker
        for task in worker.running:
            task.cancel()
        await worker.source.stop()


def produce(group: FakeGroup, number: int, values: Any) -> None:
    for value in values:
        group.produce(number, value, round(asyncio.get_running_loop().time() * 1e3))


def both(test: Callable[..., Any]) -> Any:
    """Runs a test on the virtual clock, with a member of the group and with a supervised worker."""

    @wraps(test)
    def run(**arguments: object) -> None:
        run_virtual(lambda: test(**arguments))

    return pytest.mark.parametrize("is_supervised", [False, True])(run)


@both
async def test_records_that_retention_deleted_are_counted_and_the_others_answered(is_supervised: bool) -> None:
    group = FakeGroup("t", 1)
    produce(group, 0, [b"%d" % n for n in range(300)])
    group.commits[group.tops[0]] = (100, "ctr-streamer:clean")
    group.delete_before(0, 150)
    with capture_logs() as logs:
        async with started(group, is_supervised=is_supervised, start_at="latest") as worker:
            await asyncio.sleep(5.0)
    assert sorted(worker.answered) == sorted((0, b"%d" % n) for n in range(150, 300))
    (warning,) = [line for line in logs if line["log_level"] == "warning"]
    assert {"first": 100, "last": 149, "records": 50, "partition": "t/0"}.items() <= warning.items()
    assert worker.metric("skipped_records_total", reason="deleted") == 50


@both
async def test_retention_passes_a_worker_that_cannot_answer(is_supervised: bool) -> None:
    """The records that it has read keep their answers, also those that are deleted meanwhile."""
    group = FakeGroup("t", 1)
    async with started(group, is_supervised=is_supervised, start_at="latest") as worker:
        worker.answers.clear()
        produce(group, 0, [b"%d" % n for n in range(100)])
        await asyncio.sleep(1.0)
        assert worker.source.unacknowledged == 8
        group.delete_before(0, 50)
        worker.answers.set()
        with capture_logs() as logs:
            await asyncio.sleep(5.0)
    assert sorted(worker.answered) == sorted((0, b"%d" % n) for n in [*range(8), *range(50, 100)])
    (line,) = [line for line in logs if "last" in line]
    assert (line["first"], line["last"]) == (8, 49)
    assert group.plain_commit(0)[0] == 100


@pytest.mark.parametrize("count", [30, 300])
@both
async def test_a_topic_is_created_again_under_a_running_worker(is_supervised: bool, count: int) -> None:
    """The new log may already be longer than the old position."""
    group = FakeGroup("t", 2)
    async with started(group, is_supervised=is_supervised, start_at="latest") as worker:
        produce(group, 0, [OLD] * 100)
        await asyncio.sleep(5.0)
        group.recreate()
        produce(group, 0, [NEW] * count)
        produce(group, 1, [NEW])
        await asyncio.sleep(25.0)
        assert worker.lag("records") == 0
    answers = Counter(worker.answered)
    assert answers[0, OLD] == 100
    assert answers[1, NEW] in {1, 2}
    assert count <= answers[0, NEW] <= 2 * count, "those above the old position are answered twice"
    assert worker.metric("position_resets_total", reason="recreated") in {1, 2}
    assert group.plain_commit(0)[0] == count


@pytest.mark.parametrize("count", [30, 300])
@both
async def test_a_topic_is_created_again_while_partitions_move(is_supervised: bool, count: int) -> None:
    """The worker that releases a partition commits an old offset to the new topic."""
    group = FakeGroup("t", 1)
    async with started(group, is_supervised=is_supervised, start_at="latest") as worker:
        produce(group, 0, [OLD] * 100)
        await asyncio.sleep(5.0)
        group.recreate()
        await worker.source.leave()
    assert group.plain_commit(0) == (100, "ctr-streamer:clean")
    produce(group, 0, [NEW] * count)
    async with started(group, is_supervised=is_supervised, start_at="latest") as worker:
        await asyncio.sleep(5.0)
    assert Counter(worker.answered) == {(0, NEW): count}


@both
async def test_a_truncated_log_is_read_from_its_beginning(is_supervised: bool) -> None:
    group = FakeGroup("t", 1)
    async with started(group, is_supervised=is_supervised, start_at="latest") as worker:
        produce(group, 0, [OLD] * 100)
        await asyncio.sleep(5.0)
        group.truncate(0, 60)
        produce(group, 0, [NEW] * 3)
        await asyncio.sleep(15.0)
        assert worker.metric("position_resets_total", reason="truncated") == 1
        assert worker.lag("records") == 0
    assert Counter(worker.answered) == {(0, OLD): 160, (0, NEW): 3}
    assert group.plain_commit(0)[0] == 63


@both
async def test_one_partition_out_of_range_does_not_delay_the_others(is_supervised: bool) -> None:
    group = FakeGroup("t", 2)
    async with started(group, is_supervised=is_supervised, max_unacknowledged_records=100) as worker:
        produce(group, 0, [OLD] * 5)
        await asyncio.sleep(1.0)
        group.truncate(0, 2)
        produce(group, 1, [NEW] * 200)
        await asyncio.sleep(0.5)
        assert Counter(worker.answered)[1, NEW] == 200
        await asyncio.sleep(5.0)
    assert Counter(worker.answered)[0, OLD] == 7


@both
async def test_an_added_partition_is_read_from_its_beginning(is_supervised: bool) -> None:
    """With `start_at: latest`, 50 requests are in it before it is assigned."""
    group = FakeGroup("t", 2)
    produce(group, 0, [OLD] * 40)
    async with started(group, is_supervised=is_supervised, start_at="latest") as worker:
        await asyncio.sleep(1.0)
        group.add_partition()
        produce(group, 2, [NEW] * 50)
        if is_supervised:
            await worker.open(2)
        else:
            await group.rebalance(group.members)
        await asyncio.sleep(5.0)
    assert Counter(worker.answered) == {(2, NEW): 50}, "the old records were written before the group's first start"


@virtual
async def test_all_members_of_a_first_start_begin_at_the_end() -> None:
    """One of them has committed when the next one opens its partitions."""
    group = FakeGroup("t", 4)
    for number in range(4):
        produce(group, number, [OLD] * 40)
    async with started(group, is_supervised=True, start_at="latest") as worker:
        assert worker.source.delivery.partitions == {("t", number) for number in range(4)}
    group.commits = {top: group.commits[top] for top in group.tops[:2]}
    async with started(group, is_supervised=True, start_at="latest") as worker:
        produce(group, 3, [NEW])
        await asyncio.sleep(5.0)
    assert worker.answered == [(3, NEW)]


@virtual
async def test_a_first_start_whose_commit_fails_begins_at_the_end() -> None:
    group = FakeGroup("t", 2)
    produce(group, 0, [OLD] * 40)
    async with started(group, is_supervised=True, start_at="latest") as worker:
        await worker.source.release(frozenset({("t", 0), ("t", 1)}))
        group.commits.clear()
        worker.failing_commits = 2
        await worker.open(0, 1)
        produce(group, 0, [NEW])
        await asyncio.sleep(5.0)
    assert worker.answered == [(0, NEW)]


@both
async def test_without_any_commit_start_at_applies_again(is_supervised: bool) -> None:
    """As after `offsets.retention.minutes` without a member: nothing tells it from a first start."""
    group = FakeGroup("t", 1)
    produce(group, 0, [OLD] * 40)
    async with started(group, is_supervised=is_supervised, start_at="latest") as worker:
        produce(group, 0, [NEW])
        await asyncio.sleep(5.0)
    assert worker.answered == [(0, NEW)]


@both
async def test_the_commit_passes_markers_and_an_idle_worker_has_no_lag(is_supervised: bool) -> None:
    group = FakeGroup("t", 2)
    async with started(group, is_supervised=is_supervised) as worker:
        for _ in range(3):
            produce(group, 0, [NEW] * 2)
            group.end_transaction(0)
        group.end_transaction(1)
        await asyncio.sleep(2.0)
        assert [group.plain_commit(number)[0] for number in (0, 1)] == [9, 1]
        commits = worker.metrics.registry.get_sample_value("streamer_offsets_commits_total") or 0
        for _ in range(30):
            await asyncio.sleep(1.0)
            assert [worker.lag("records", number) for number in (0, 1)] == [0, 0]
            assert [worker.lag("seconds", number) for number in (0, 1)] == [0, 0]
        assert worker.metrics.registry.get_sample_value("streamer_offsets_commits_total") == commits
    assert len(worker.answered) == 6


@both
async def test_markers_behind_an_unanswered_record_wait_for_it(is_supervised: bool) -> None:
    group = FakeGroup("t", 1)
    async with started(group, is_supervised=is_supervised) as worker:
        worker.answers.clear()
        produce(group, 0, [NEW])
        for _ in range(5):
            group.end_transaction(0)
        await asyncio.sleep(5.0)
        assert group.plain_commit(0)[0] == 0
        worker.answers.set()
        await asyncio.sleep(2.0)
        assert group.plain_commit(0)[0] == 6


@both
async def test_the_lag_of_a_worker_that_cannot_answer_grows(is_supervised: bool) -> None:
    """Its reading pauses, so no fetch brings the end of the log."""
    group = FakeGroup("t", 1)
    async with started(group, is_supervised=is_supervised) as worker:
        produce(group, 0, [NEW])
        await asyncio.sleep(60.0)
        assert (worker.lag("records"), worker.lag("seconds")) == (0, 0)
        worker.answers.clear()
        for _ in range(40):
            produce(group, 0, [NEW] * 10)
            await asyncio.sleep(1.0)
        records, seconds = worker.lag("records"), worker.lag("seconds")
        assert records is not None
        assert seconds is not None
        assert 300 <= records <= 400
        assert 38 <= seconds <= 41
        worker.answers.set()
        await asyncio.sleep(30.0)
        assert (worker.lag("records"), worker.lag("seconds")) == (0, 0)


@both
async def test_the_lag_of_a_partition_that_was_never_read_grows_with_the_time(is_supervised: bool) -> None:
    group = FakeGroup("t", 2)
    produce(group, 0, [NEW] * 100)
    async with started(group, is_supervised=is_supervised, max_partition_share=1.0) as worker:
        worker.answers.clear()
        produce(group, 1, [NEW])
        await asyncio.sleep(60.0)
        seconds = worker.lag("seconds", 1)
        assert worker.lag("records", 1) == 1
        assert seconds is not None
        assert seconds > 45
