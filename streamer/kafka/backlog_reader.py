"""Reads the older records of partitions beside the live ones."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from structlog.typing import FilteringBoundLogger

from streamer.errors import ConfigError
from streamer.kafka.damaged_partitions import DamagedPartitions
from streamer.kafka.delivery import Delivery
from streamer.kafka.split_offsets import Gap, SplitOffsets
from streamer.metrics import Metrics
from streamer.settings.sections import SourceSettings
from streamer.types import Origin, Partition, Record

_POLL_MS = 100
_RETRY_S = 1.0
# An expired record takes the event loop about 0.15 ms: a chunk delays live records by little more than 1 ms. Smaller
# chunks cost more, because each of them is one request to a broker.
_CHUNK = 8
# The pause after a chunk. If the reader wakes up later than `_BUSY_S`, live records keep the event loop or the cores
# busy, and it pauses again, up to `_MAX_PAUSE_S`. So it reads 200 to 800 records/s.
_PAUSE_S = 0.01
_BUSY_S = 0.002
_MAX_PAUSE_S = 0.04


@dataclass(slots=True, eq=False)
class BacklogReader:
    """Reads the gaps of a worker's partitions, with a consumer that is no member of the group.

    1. The consumer exists only while a gap is unread.
    2. At most `max_backlog_records` of its records are unacknowledged, and `max_uncommitted` uncommitted. They take no
       place of live records, and it reads more slowly while the event loop is busy.
    3. It receives nothing while a record is isolated, or while partitions are revoked.
    4. A failed fetch is retried. Records that the brokers have deleted are counted and passed over.
    """

    new_consumer: Callable[[], Any]
    offsets: SplitOffsets
    delivery: Delivery
    receive: Callable[[ConsumerRecord], Record]
    after_acknowledged: Callable[[Origin], None]
    admission: asyncio.Lock
    changed: asyncio.Event
    out_of_range: Callable[[Iterable[TopicPartition]], None]
    settings: SourceSettings
    max_uncommitted: int
    metrics: Metrics
    log: FilteringBoundLogger
    clock: Callable[[], float]
    _consumer: Any = None
    _damaged: DamagedPartitions = field(init=False)
    # The gaps that the consumer reads. Records of a partition that was lost meanwhile belong to another gap.
    _assigned: Mapping[Partition, Gap] = field(default_factory=dict)
    _closing: bool = False

    def __post_init__(self) -> None:
        self._damaged = DamagedPartitions(self.metrics, self.log, self.clock)

    async def chunks(self) -> AsyncIterator[list[Record]]:
        """Chunks of up to 8 records, the oldest ones of a partition first, until `close`."""
        while not self._closing:
            self.changed.clear()
            unread, room = self.offsets.unread, self._room()
            if not unread:
                await self.stop()
            if room <= 0 or not unread:
                await self._change()
                continue
            try:
                found = await self._fetch(unread, min(room, _CHUNK))
            except OffsetOutOfRangeError as error:
                await self._pass_deleted(error)
            except (KafkaError, ConfigError, TimeoutError) as error:
                self.metrics.fetch_failures.inc()
                names = ["{}/{}".format(*partition) for partition in unread]
                self.log.warning("backlog cannot be read, retried", partitions=names, error=repr(error))
                await self.stop()
                await asyncio.sleep(_RETRY_S)
            else:
                async with self.admission:
                    chunk = self._admit(found)
                if chunk:
                    yield chunk
                if found:
                    await self._pause()

    def answered(self) -> None:
        """As `Source.answered`; records of gaps do not count as in flight."""

    def acknowledged(self, origin: Origin) -> None:
        """As `Source.acknowledged`."""
        self.after_acknowledged(origin)
        self.changed.set()

    def close(self) -> None:
        """Stops reading; records that were read go on."""
        self._closing = True
        self.changed.set()

    async def stop(self) -> None:
        """Disconnects."""
        consumer, self._consumer, self._assigned = self._consumer, None, {}
        self._damaged.forget()
        if consumer is not None:
            await consumer.stop()

    def _room(self) -> int:
        if self.delivery.is_isolating:
            return 0
        return min(
            self.settings.max_backlog_records - self.offsets.unacknowledged_of_gaps,
            self.max_uncommitted - self.offsets.uncommitted_of_gaps,
        )

    async def _fetch(self, unread: Mapping[Partition, Gap], most: int) -> Sequence[ConsumerRecord]:
        if self._consumer is None:
            self._consumer = self.new_consumer()
            await self._consumer.start()
        if unread != self._assigned:
            self._assigned = unread
            self._consumer.assign([TopicPartition(*partition) for partition in unread])
            for partition, gap in unread.items():
                self._consumer.seek(TopicPartition(*partition), gap.position)
        self._damaged.resume(self._consumer, unread)
        found = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=most)
        if not found:
            # The last offsets of a gap may belong to no record, as after a transaction.
            for partition in unread:
                reached = await self._consumer.position(TopicPartition(*partition))
                if self._gap(partition) is not None:
                    self.offsets.pass_over(partition, reached)
        return self._damaged.readable(self._consumer, found.values())

    def _admit(self, records: Sequence[ConsumerRecord]) -> list[Record]:
        chunk: list[Record] = []
        if self.delivery.is_isolating:
            # They were fetched before: the next fetch begins at the positions of the gaps again.
            self._assigned = {}
        if self._closing or self.delivery.is_isolating:
            return chunk
        behind: dict[Partition, Gap] = {}
        for record in records:
            partition = (record.topic, record.partition)
            if (gap := self._gap(partition)) is None:
                continue
            if record.offset >= gap.end or self.offsets.is_answered(partition, record.offset):
                self.offsets.pass_over(partition, record.offset)
            if gap.position <= record.offset < gap.end:
                chunk.append(self.receive(record))
            else:
                behind[partition] = gap
        for partition, gap in behind.items():
            # The rest of a range of answered records is not fetched.
            self._consumer.seek(TopicPartition(*partition), gap.position)
        return chunk

    def _gap(self, partition: Partition) -> Gap | None:
        """The gap that the consumer reads; None if it is read, or its partition is given up."""
        gap = None if partition in self.delivery.closing else self._assigned.get(partition)
        return gap if gap is not None and gap is self.offsets.unread.get(partition) else None

    async def _pass_deleted(self, error: OffsetOutOfRangeError) -> None:
        """Goes on at the first record that the brokers still have."""
        tops = list(error.args[0])
        try:
            firsts = await self._consumer.beginning_offsets(tops)
        except (KafkaError, TimeoutError):
            firsts = {}  # the next fetch fails again
        for top, first in firsts.items():
            if (gap := self._gap(top)) is None:
                continue
            before = self.offsets.backlog_of(top)
            self.offsets.pass_over(top, first)
            deleted = before - self.offsets.backlog_of(top)
            if not deleted:
                # The log ends before the gap.
                self.out_of_range([top])
                await asyncio.sleep(_RETRY_S)
                continue
            self.metrics.skipped.labels("deleted").inc(deleted)
            self.log.warning(
                "backlog deleted by the topic's retention", partition=f"{top.topic}/{top.partition}", records=deleted
            )
            if not gap.is_read:
                self._consumer.seek(top, gap.position)

    async def _pause(self) -> None:
        began = now = self.clock()
        late = _BUSY_S
        while late >= _BUSY_S and now - began < _MAX_PAUSE_S:
            due = now + _PAUSE_S
            await asyncio.sleep(_PAUSE_S)
            now = self.clock()
            late = now - due

    async def _change(self) -> None:
        # Isolation ends without an event.
        with suppress(TimeoutError):
            async with asyncio.timeout(_RETRY_S if self.delivery.is_isolating else None):
                await self.changed.wait()
