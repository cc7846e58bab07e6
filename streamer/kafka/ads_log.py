"""Reads the topic of ads: all partitions, without a group, from given positions."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from structlog.typing import FilteringBoundLogger

from streamer.ads import AdRecord, AdsBatch, LogBounds, LostPosition
from streamer.errors import ConfigError, UnreachableError
from streamer.kafka.damaged_partitions import DamagedPartitions, FetchMetrics
from streamer.kafka.record_batches import UnreadableRecord
from streamer.kafka.topic_ids import TopicNow

_POLL_MS = 200
# A topic that is created again, an added partition and a lost leader are noticed after this time.
_LOOK_S = 2.0
_TRY_S = 1.0


@dataclass(slots=True, eq=False)
class AdsLog:
    """Reads the topic with a consumer of its own; implements `streamer.ads.AdsLog`.

    1. Each record from the first position on is returned once, in the order of its partition.
    2. While nobody calls `read`, at most one reply of each broker is in memory.
    3. Another topic of the same name, or a log without the position, is a `LostPosition`, never a gap.
    4. A partition that cannot be read delays no other one.

    Attributes:
        new_consumer: makes a consumer without a group, not started.
        topic_now: id, partitions and leaders, of a consumer, a topic, and seconds for each broker's answer.
    """

    topic: str
    new_consumer: Callable[[], Any]
    topic_now: Callable[[Any, str, float], Awaitable[TopicNow]]
    metrics: FetchMetrics
    log: FilteringBoundLogger
    clock: Callable[[], float]
    _consumer: Any = None
    _damaged: DamagedPartitions = field(init=False)
    _topic_id: str = ""
    _look_at: float = 0.0
    _outage: str | None = None
    _answered: dict[TopicPartition, int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._damaged = DamagedPartitions(self.metrics, self.log, self.clock)

    async def topic_id(self) -> str:
        """The topic's id, empty with brokers older than topic ids. Raises UnreachableError."""
        consumer = None
        try:
            consumer = self.new_consumer()
            await consumer.start()
            return (await self.topic_now(consumer, self.topic, _TRY_S)).id
        except (KafkaError, ConfigError, TimeoutError) as error:
            raise self._unreachable(error) from error
        finally:
            if consumer is not None:
                await _stop(consumer)

    async def open(self, offsets: Mapping[int, int], topic_id: str) -> LogBounds | LostPosition:
        """Connects, and begins at these next offsets. Raises UnreachableError."""
        await self.close()
        try:
            self._consumer = self.new_consumer()
            await self._consumer.start()
            now = await self.topic_now(self._consumer, self.topic, _TRY_S)
            # Asked together, a partition without a leader would hide the others.
            led = [self._top(number) for number, is_led in now.partitions.items() if is_led]
            firsts, ends = await self._consumer.beginning_offsets(led), await self._consumer.end_offsets(led)
        except (KafkaError, ConfigError, TimeoutError) as error:
            raise self._unreachable(error) from error
        bounds = {top.partition: (firsts[top], ends[top]) for top in led}
        if unknown := now.partitions.keys() - bounds.keys() - offsets.keys():
            raise UnreachableError(f"topic {self.topic}: partition {min(unknown)} has no leader")
        lost = _lost(offsets, topic_id, now, bounds)
        if lost is not None:
            return lost
        self._topic_id, self._look_at = now.id, self.clock() + _LOOK_S
        starts = {number: offsets[number] if number in offsets else bounds[number][0] for number in now.partitions}
        self._assign(starts)
        self._name_leaderless(now)
        return LogBounds(now.id, starts, {number: end for number, (_, end) in bounds.items()})

    async def read(self, most: int) -> AdsBatch | LostPosition:
        """At most `most` records; none after 200 ms without one. Raises UnreachableError."""
        consumer = self._consumer
        assert consumer is not None, "opened"
        if self.clock() >= self._look_at and (lost := await self._look()) is not None:
            return lost
        assigned = consumer.assignment()
        self._damaged.resume(consumer, assigned)
        try:
            found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=most)
        except KafkaError as error:
            # Also a position out of range: a broker that has just become the leader may reject a valid one.
            raise self._unreachable(error) from error
        records = list(map(_record, self._damaged.readable(consumer, found.values())))
        # Positions also pass offsets without a record: ends of transactions, compacted records.
        offsets = {top.partition: await consumer.position(top) for top in assigned}
        return AdsBatch(records, offsets, self._ends(assigned))

    async def close(self) -> None:
        """Disconnects."""
        consumer, self._consumer, self._outage = self._consumer, None, None
        self._damaged.forget()
        self._answered.clear()
        if consumer is not None:
            await _stop(consumer)

    def outage(self) -> str | None:
        """Why some partitions cannot be read now; None if all can."""
        if numbers := self._damaged.numbers:
            return f"topic {self.topic}: damaged, cannot be read: partition {', '.join(map(str, numbers))}"
        return self._outage

    async def _look(self) -> LostPosition | None:
        """Looks for another topic of this name, for added partitions, and for lost leaders."""
        self._look_at = self.clock() + _LOOK_S
        try:
            now = await self.topic_now(self._consumer, self.topic, _TRY_S)
        except (KafkaError, TimeoutError) as error:
            self._set_outage(f"{type(error).__name__}: {error}")
            return None
        positions = {top.partition: await self._consumer.position(top) for top in self._consumer.assignment()}
        lost = _lost(positions, self._topic_id, now, {})
        if lost is None:
            if added := now.partitions.keys() - positions.keys():
                self.log.info("partitions added", topic=self.topic, partitions=sorted(added))
                self._assign(positions | dict.fromkeys(added, 0))
            self._name_leaderless(now)
        return lost

    def _assign(self, positions: Mapping[int, int]) -> None:
        """Reads these partitions. aiokafka forgets positions and pauses with the assignment before.

        Nothing is awaited: aiokafka's fetching task must not see a partition without its position.
        """
        self._damaged.forget()
        self._answered.clear()
        self._consumer.assign([self._top(number) for number in sorted(positions)])
        for number, offset in positions.items():
            self._consumer.seek(self._top(number), offset)

    def _ends(self, assigned: set[TopicPartition]) -> dict[int, int]:
        """The ends of the partitions whose last reply is new."""
        ends: dict[int, int] = {}
        for top in assigned:
            answered = self._consumer.last_poll_timestamp(top)
            if answered is not None and answered != self._answered.get(top):
                self._answered[top] = answered
                ends[top.partition] = self._consumer.last_stable_offset(top)
        return ends

    def _name_leaderless(self, now: TopicNow) -> None:
        leaderless = sorted(number for number, is_led in now.partitions.items() if not is_led)
        self._set_outage(f"no leader for partition {', '.join(map(str, leaderless))}" if leaderless else None)

    def _set_outage(self, outage: str | None) -> None:
        if outage is not None and self._outage is None:
            self.log.error("topic cannot be read, retried", topic=self.topic, error=outage)
        elif outage is None and self._outage is not None:
            self.log.info("topic readable again", topic=self.topic)
        self._outage = outage

    def _unreachable(self, error: Exception) -> UnreachableError:
        self.metrics.fetch_failures.inc()
        return UnreachableError(f"topic {self.topic}: {type(error).__name__}: {error}")

    def _top(self, number: int) -> TopicPartition:
        return TopicPartition(self.topic, number)


def _lost(
    offsets: Mapping[int, int], topic_id: str, now: TopicNow, bounds: Mapping[int, tuple[int, int]]
) -> LostPosition | None:
    """Why the log is not that of these positions.

    `bounds`: first and next offset of each partition with a leader.
    """
    if topic_id and now.id and topic_id != now.id:
        return LostPosition("recreated", f"its id was {topic_id}, now {now.id}")
    if missing := offsets.keys() - now.partitions.keys():
        return LostPosition("recreated", f"there is no partition {min(missing)} any more")
    for number, (first, end) in bounds.items():
        at = offsets.get(number, first)
        if at < first:
            return LostPosition("deleted", f"partition {number} begins at {first}, the position is {at}")
        if at > end:
            return LostPosition("truncated", f"partition {number} ends at {end}, the position is {at}")
    return None


async def _stop(consumer: Any) -> None:
    """A hung broker delays nothing."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_TRY_S):
            await consumer.stop()


def _record(record: ConsumerRecord) -> AdRecord:
    place = record.partition, record.offset, record.timestamp
    if isinstance(record, UnreadableRecord):
        return AdRecord(*place, None, None, (), record.reason)
    return AdRecord(*place, record.key, record.value, record.headers)
