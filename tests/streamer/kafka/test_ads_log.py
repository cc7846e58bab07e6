"""Reading the topic of ads: every record once, from given positions, whatever happens to the topic."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from aiokafka.errors import KafkaConnectionError, KafkaError, UnknownTopicOrPartitionError
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streamer.ads import AdsBatch, LogBounds, LostPosition
from streamer.errors import UnreachableError
from streamer.kafka.ads_log import AdsLog
from streamer.kafka.topic_ids import TopicNow
from streamer.metrics import Metrics
from streamer.testing.consumer_group import FakeConsumer, FakeGroup
from streamer.testing.virtual_loop import virtual

A_READ_S = 0.21
A_LOOK_S = 2.5


@dataclass
class Topic:
    """The topic `t` in memory, and its reader."""

    group: FakeGroup = field(default_factory=lambda: FakeGroup("t", 2))
    failure: KafkaError | None = None
    leaderless: frozenset[int] = frozenset()
    consumers: list[FakeConsumer] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)
    values: list[bytes | None] = field(default_factory=list)
    offsets: Mapping[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        clock = asyncio.get_running_loop().time
        self.log = AdsLog("t", self._consumer, self._now, self.metrics.tables, structlog.get_logger(), clock)

    def _consumer(self) -> FakeConsumer:
        self.consumers.append(FakeConsumer(self.group, is_member=False))
        return self.consumers[-1]

    async def _now(self, consumer: Any, topic: str, try_s: float) -> TopicNow:
        if self.failure is not None:
            raise self.failure
        numbers = [top.partition for top in self.group.tops]
        return TopicNow(f"{self.group.topic_id:032}", {number: number not in self.leaderless for number in numbers})

    async def open(self, offsets: Mapping[int, int] | None = None, topic_id: str = "") -> LogBounds:
        bounds = await self.log.open(offsets or {}, topic_id)
        assert isinstance(bounds, LogBounds)
        return bounds

    async def read(self, seconds: float = A_READ_S, most: int = 100) -> LostPosition | None:
        """Reads for so long; all that was read is in `values`."""
        until = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < until:
            batch = await self.log.read(most)
            if isinstance(batch, LostPosition):
                return batch
            assert len(batch.records) <= most
            self.values += [record.value for record in batch.records]
            self.offsets = batch.offsets
            self.ends |= batch.ends
        return None

    def count(self, name: str, **labels: str) -> float | None:
        registry: CollectorRegistry = self.metrics.registry
        return registry.get_sample_value(f"streamer_table_{name}", labels)


@virtual
async def test_a_first_load_reads_each_record_once_and_knows_the_ends() -> None:
    topic = Topic()
    for n in range(250):
        topic.group.produce(n % 2, b"%d" % n)
    assert await topic.open() == LogBounds(f"{1:032}", {0: 0, 1: 0}, {0: 125, 1: 125})
    await topic.read(most=7)
    assert sorted(map(int, topic.values)) == list(range(250))  # type: ignore[arg-type]
    assert topic.offsets == topic.ends == {0: 125, 1: 125}


@virtual
async def test_it_goes_on_at_given_positions_and_at_the_beginning_of_new_partitions() -> None:
    topic = Topic()
    for n in range(6):
        topic.group.produce(n % 2, b"%d" % n)
    assert (await topic.open({0: 2}, f"{1:032}")).starts == {0: 2, 1: 0}
    await topic.read()
    assert topic.values == [b"4", b"1", b"3", b"5"]


@virtual
async def test_an_end_is_told_again_only_after_another_reply() -> None:
    """Otherwise a table would seem current while no broker answers."""
    topic = Topic()
    topic.group.produce(0, b"a")
    await topic.open()
    first, second = await topic.log.read(1), await topic.log.read(1)
    assert isinstance(first, AdsBatch)
    assert isinstance(second, AdsBatch)
    assert first.ends[0] == 1
    topic.consumers[-1].pause(*topic.group.tops)
    third = await topic.log.read(1)
    assert isinstance(third, AdsBatch)
    assert third.ends == {}
    assert third.offsets == {0: 1, 1: 0}


@virtual
async def test_the_ends_of_transactions_are_passed() -> None:
    topic = Topic()
    topic.group.produce(0, b"a")
    topic.group.end_transaction(0)
    await topic.open()
    await topic.read()
    assert topic.values == [b"a"]
    assert topic.offsets == {0: 2, 1: 0}


@virtual
async def test_an_added_partition_is_read_from_its_beginning_and_the_others_go_on() -> None:
    topic = Topic()
    topic.group.produce(0, b"before")
    await topic.open()
    await topic.read()
    topic.group.add_partition()
    topic.group.produce(2, b"added")
    topic.group.produce(0, b"after")
    await topic.read(A_LOOK_S)
    assert sorted(topic.values) == [b"added", b"after", b"before"]  # type: ignore[type-var]
    assert topic.offsets == {0: 2, 1: 0, 2: 1}


@virtual
async def test_a_topic_that_is_created_again_is_told_while_it_is_read_and_when_it_is_opened() -> None:
    topic = Topic()
    topic.group.produce(0, b"a")
    bounds = await topic.open()
    await topic.read()
    topic.group.recreate()
    topic.group.produce(0, b"b")  # the position seems to be that of the new log
    lost = await topic.read(A_LOOK_S)
    assert isinstance(lost, LostPosition)
    assert lost.reason == "recreated"
    assert await topic.log.open({0: 1, 1: 0}, bounds.topic_id) == lost


@pytest.mark.parametrize(
    ("positions", "reason", "detail"),
    [
        ({0: 9, 1: 0}, "truncated", "partition 0 ends at 5, the position is 9"),
        ({0: 1, 1: 0}, "deleted", "partition 0 begins at 2, the position is 1"),
        ({0: 3, 1: 0, 2: 0}, "recreated", "there is no partition 2 any more"),
    ],
)
def test_a_position_that_the_log_lacks_is_told(positions: dict[int, int], reason: str, detail: str) -> None:
    async def opened() -> None:
        topic = Topic()
        for _ in range(5):
            topic.group.produce(0, b"a")
        topic.group.delete_before(0, 2)
        assert await topic.log.open(positions, "") == LostPosition(reason, detail)  # type: ignore[arg-type]

    virtual(opened)()


@virtual
async def test_a_failed_fetch_is_unreachable_and_open_begins_again() -> None:
    topic = Topic()
    await topic.open()
    topic.group.produce(0, b"a")
    topic.consumers[-1].failures = [KafkaConnectionError("the broker is away")]
    with pytest.raises(UnreachableError, match="topic t: KafkaConnectionError"):
        await topic.read()
    assert topic.count("fetch_failures_total") == 1
    await topic.open({0: 0, 1: 0})
    await topic.read()
    assert topic.values == [b"a"]
    assert [consumer.is_started for consumer in topic.consumers] == [False, True]


@virtual
async def test_a_log_that_lost_its_end_under_the_reader_is_told_by_the_next_open() -> None:
    topic = Topic()
    for _ in range(5):
        topic.group.produce(0, b"a")
    await topic.open()
    await topic.read()
    topic.group.truncate(0, 2)
    with pytest.raises(UnreachableError):
        await topic.read()
    lost = await topic.log.open(topic.offsets, "")
    assert isinstance(lost, LostPosition)
    assert lost.reason == "truncated"


@virtual
async def test_a_lost_leader_is_an_outage_that_is_told_once_and_stops_no_other_partition() -> None:
    topic = Topic()
    await topic.open()
    with capture_logs() as logs:
        topic.leaderless = frozenset({1})
        await topic.read(3 * A_LOOK_S)
        assert topic.log.outage() == "no leader for partition 1"
        topic.group.produce(0, b"a")
        await topic.read()
        topic.leaderless = frozenset()
        await topic.read(A_LOOK_S)
    assert topic.log.outage() is None
    assert topic.values == [b"a"]
    assert [entry["event"] for entry in logs] == ["topic cannot be read, retried", "topic readable again"]


@virtual
async def test_a_known_position_of_a_partition_without_a_leader_is_kept_and_an_unknown_one_waits() -> None:
    topic = Topic(leaderless=frozenset({1}))
    with pytest.raises(UnreachableError, match="topic t: partition 1 has no leader"):
        await topic.open({0: 0})
    bounds = await topic.open({0: 0, 1: 7})
    assert bounds.starts == {0: 0, 1: 7}
    assert bounds.ends == {0: 0}


@virtual
async def test_while_no_broker_describes_the_topic_it_is_read_on() -> None:
    topic = Topic()
    await topic.open()
    topic.failure = UnknownTopicOrPartitionError("t")
    await topic.read(A_LOOK_S)
    assert "UnknownTopicOrPartitionError" in (topic.log.outage() or "")
    topic.group.produce(0, b"a")
    await topic.read()
    assert topic.values == [b"a"]


@virtual
async def test_a_damaged_partition_is_named_and_stops_no_other() -> None:
    topic = Topic()
    topic.group.produce(0, b"a")
    topic.group.produce(0, b"b")
    topic.group.damaged[topic.group.tops[0]] = 1
    await topic.open()
    topic.group.produce(1, b"c")
    await topic.read(1.0)
    assert sorted(topic.values) == [b"a", b"c"]  # type: ignore[type-var]
    assert topic.offsets == {0: 1, 1: 1}
    assert topic.count("unreadable_partitions", partition="0") == 1
    assert topic.log.outage() == "topic t: damaged, cannot be read: partition 0"
    del topic.group.damaged[topic.group.tops[0]]
    await topic.read(A_LOOK_S)
    assert topic.log.outage() is None
    assert topic.values[-1] == b"b"


@virtual
async def test_the_topics_id_needs_no_reader() -> None:
    topic = Topic()
    assert await topic.log.topic_id() == f"{1:032}"
    topic.failure = KafkaConnectionError("no broker")
    with pytest.raises(UnreachableError):
        await topic.log.topic_id()
    assert not any(consumer.is_started for consumer in topic.consumers)
