"""Workers that die, on a virtual clock: the next one continues at full speed until deaths repeat at one offset."""

import asyncio
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pytest
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from structlog.testing import capture_logs

from streamer.assembly import Assembly
from streamer.deadline import Deadline
from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.poison import Mark
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.tasks import TaskOwner
from streamer.testing.consumer_group import FakeConsumer, FakeGroup
from streamer.testing.virtual_loop import run_virtual, virtual
from streamer.types import Record

GOOD, KILLS = b"good", b"kills"
# The records have no time: without a backlog, all are read by the consumer of the group.
SETTINGS = Settings.model_validate({"source": {"topic": "t", "deadline_from": "arrival"}})
ISOLATION = SETTINGS.delivery.deaths_before_isolation
DEAD_LETTER = SETTINGS.delivery.deaths_before_dead_letter
COMMIT_S = SETTINGS.offsets.commit_interval_ms / 1e3


class WorkerDiedError(Exception):
    """A record has killed its worker."""


class Consumer(FakeConsumer):
    """A consumer whose commits can fail, and whose partitions can end in offsets without records."""

    def __init__(self, group: FakeGroup) -> None:
        super().__init__(group)
        self.lost_replies = 0
        self.failing_share = 0.0
        self.not_stored: list[tuple[int, str]] = []
        self.trailing: frozenset[TopicPartition] = frozenset()

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        refused = [commit for commit in offsets.values() if commit in self.not_stored]
        if refused or random.random() < self.failing_share / 2:
            self.not_stored = [commit for commit in self.not_stored if commit not in refused]
            raise KafkaError("not stored")
        await super().commit(offsets)
        if self.lost_replies or random.random() < self.failing_share / 2:
            self.lost_replies = max(0, self.lost_replies - 1)
            raise KafkaError("stored, but the reply is lost")

    async def end_offsets(self, tops: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {top: end + (top in self.trailing) for top, end in (await super().end_offsets(tops)).items()}

    async def position(self, top: TopicPartition) -> int:
        position = await super().position(top)
        return position + (top in self.trailing and position == len(self._group.logs[top]))


@dataclass(eq=False)
class Worker:
    """A worker without its scoring stages; it dies of a record with the value `KILLS`.

    Its records are acknowledged after `seconds`, those of `silent` never.
    """

    group: FakeGroup
    seconds: float = 0.01
    silent: frozenset[int] = frozenset()
    answered: list[tuple[int, int]] = field(default_factory=list)
    dead: list[tuple[int, int]] = field(default_factory=list)
    most_in_flight: int = 0
    isolated: int = 0

    def __post_init__(self) -> None:
        self.consumer = Consumer(self.group)
        self.offsets = OffsetTracker()
        self.metrics = Metrics()
        clock = asyncio.get_running_loop().time
        assembly = Assembly(SETTINGS, self.metrics, structlog.get_logger(), clock, TaskOwner().spawn)
        self.source = assembly.source(self.consumer, self.offsets, self.group.commits_of, wall_clock=clock)

    async def live(self, seconds: float = 1e3) -> bool:
        """Works until it is killed after `seconds`; False if it died of a record before. Then it is gone."""
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
                await self.source.start()
                tasks.create_task(self._commit())
                async for chunk in self.source.chunks():
                    self._see(chunk)
                    for record in chunk:
                        tasks.create_task(self._answer(record))
        except TimeoutError:
            return True
        except ExceptionGroup as error:
            _, others = error.split(WorkerDiedError)
            if others is not None:
                raise others from None
            return False
        finally:
            await self.consumer.stop()
        raise AssertionError("it closes only when it is told to")

    async def leave_after(self, seconds: float) -> None:
        """Works, and releases its partitions in order."""
        await self.source.start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(tasks))
            committing = tasks.create_task(self._commit())
            await asyncio.sleep(seconds)
            self.source.close()
            await self.source.join(Deadline.after(asyncio.get_running_loop().time(), 1e3))
            committing.cancel()
        await self.source.leave()
        await self.consumer.stop()

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        async for chunk in self.source.chunks():
            for record in chunk:
                tasks.create_task(self._answer(record))

    def _see(self, chunk: list[Record]) -> None:
        (gauge,) = self.metrics.isolated_partitions.collect()
        self.isolated = max(self.isolated, int(gauge.samples[0].value))
        self.most_in_flight = max(self.most_in_flight, self.offsets.unacknowledged)
        if gauge.samples[0].value:
            read = {(record.origin.topic, record.origin.partition) for record in chunk}
            for top, (_, text) in self.group.commits.items():
                assert top in read or Mark.parse(text).state != "trying", f"{top} names a record that is answered"

    async def _answer(self, record: Record) -> None:
        at = (record.origin.partition, record.origin.offset)
        if record.is_suspect:
            self.dead.append(at)
        elif record.value == KILLS:
            raise WorkerDiedError
        if record.origin.partition in self.silent:
            return
        await asyncio.sleep(self.seconds)
        self.answered.append(at)
        self.source.answered()
        self.source.acknowledged(record.origin)

    async def _commit(self) -> None:
        while True:
            await self.source.commit_when_due()


def new_group(*logs: list[bytes]) -> FakeGroup:
    group = FakeGroup("t", len(logs))
    for number, values in enumerate(logs):
        for value in values:
            group.produce(number, value)
    return group


def mark_of(group: FakeGroup, number: int = 0) -> str:
    return group.plain_commit(number)[1].removeprefix("ctr-streamer:")


@virtual
async def test_the_successor_of_a_killed_worker_works_at_full_speed() -> None:
    group = new_group([GOOD] * 1000)
    await Worker(group, seconds=1e6).live(0.5)
    assert mark_of(group) == "running"
    successor = Worker(group)
    assert await successor.live(COMMIT_S / 2)
    assert mark_of(group) == "running deaths 1 at 0"
    assert (successor.isolated, successor.most_in_flight > 10) == (0, True)
    last = Worker(group)
    assert await last.live(60.0)
    assert group.plain_commit(0) == (1000, "ctr-streamer:running"), "progress starts the count again"
    assert last.isolated == 0


@virtual
async def test_kills_with_progress_between_them_isolate_nothing() -> None:
    group = new_group([GOOD] * 5000, [GOOD] * 5000)
    answered: set[tuple[int, int]] = set()
    rng = random.Random(1)
    while len(answered) < 10_000:
        worker = Worker(group)
        assert await worker.live(COMMIT_S + rng.uniform(0.05, 0.5))
        answered.update(worker.answered)
        assert (worker.isolated, worker.dead) == (0, [])


@virtual
async def test_only_the_record_that_kills_its_worker_is_dead_lettered() -> None:
    group = new_group([GOOD] * 7 + [KILLS] + [GOOD] * 12, [GOOD] * 20)
    marks = []
    answered: set[tuple[int, int]] = set()
    for _ in range(ISOLATION + DEAD_LETTER):
        worker = Worker(group)
        assert not await worker.live()
        assert worker.dead == []
        answered.update(worker.answered)
        marks.append(mark_of(group))
    assert marks == [
        "running",
        "running deaths 1 at 0",
        "running deaths 2 at 0",
        "careful until 20 trying 7 deaths 0",
        "careful until 20 trying 7 deaths 1",
    ]
    last = Worker(group)
    assert await last.live(60.0)
    answered.update(last.answered)
    assert last.dead == [(0, 7)]
    assert answered == {(number, offset) for number in (0, 1) for offset in range(20)}
    assert [group.plain_commit(number) for number in (0, 1)] == [(20, "ctr-streamer:running")] * 2


@virtual
async def test_a_commit_whose_reply_is_lost_counts_no_death() -> None:
    group = new_group([GOOD] * 10)
    await Worker(group, seconds=1e6).live(0.5)
    worker = Worker(group, seconds=1e6)
    worker.consumer.lost_replies = 2 * ISOLATION
    await worker.live(60.0)
    assert worker.offsets.unacknowledged == 10
    assert mark_of(group) == "running deaths 1 at 0"


@virtual
async def test_a_release_in_order_without_progress_keeps_the_deaths() -> None:
    group = new_group([KILLS] + [GOOD] * 10)
    for _ in range(2):
        assert not await Worker(group).live()
    waiting = Worker(group)
    waiting.source.close()
    await waiting.leave_after(0.0)
    assert mark_of(group) == "clean deaths 2 at 0"
    assert not await Worker(group).live()
    assert mark_of(group) == "running deaths 2 at 0", "the release was no death"
    assert not await Worker(group).live()
    assert mark_of(group) == "careful until 11 trying 0 deaths 0"


@virtual
async def test_isolation_without_records_ends_while_another_partition_is_busy() -> None:
    """The last offset of a partition may hold the control record of a producer's transaction."""
    group = new_group([GOOD], [GOOD] * 100_000)
    group.commits = {group.tops[0]: (1, str(Mark("running", 0, ISOLATION - 1, 1)))}
    worker = Worker(group)
    worker.consumer.trailing = frozenset({group.tops[0]})
    with capture_logs() as logs:
        await worker.live(1.0)
    assert [line["deaths"] for line in logs if "deaths" in line] == [{"t/0": ISOLATION}]
    assert [line["partitions"] for line in logs if "partitions" in line] == [["t/0"]]
    assert worker.most_in_flight > 10
    assert mark_of(group) == "running"


@virtual
async def test_no_record_is_processed_while_a_mark_names_the_one_before() -> None:
    """A death would count for both."""
    group = new_group([], [GOOD, GOOD])
    group.commits = {group.tops[1]: (0, str(Mark("running", 0, ISOLATION - 1, 0)))}
    worker = Worker(group)
    worker.consumer.not_stored = [(1, str(Mark("isolated", 2)))]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.live(60.0))
        await asyncio.sleep(worker.seconds / 2)
        group.produce(0, GOOD)
    assert worker.consumer.not_stored == []
    assert worker.answered == [(1, 0), (0, 0), (1, 1)]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_failing_commits_and_kills_dead_letter_only_what_killed_its_workers_alone(seed: int) -> None:
    random.seed(seed)
    rng = random.Random(seed)

    async def lives() -> None:
        group = new_group(*([KILLS if rng.random() < 0.02 else GOOD for _ in range(200)] for _ in range(3)))
        killing = {(top.partition, n) for top, log in group.logs.items() for n, r in enumerate(log) if r.value == KILLS}
        answered: set[tuple[int, int]] = set()
        dead: set[tuple[int, int]] = set()
        for _ in range(120):
            worker = Worker(group)
            worker.consumer.failing_share = 0.3
            await worker.live(rng.expovariate(1 / 30))
            answered.update(worker.answered)
            dead.update(worker.dead)
        worker = Worker(group)
        await worker.live(1e3)
        answered.update(worker.answered)
        assert killing <= dead | set(worker.dead)
        assert answered == {(number, offset) for number in range(3) for offset in range(200)}

    run_virtual(lives)
