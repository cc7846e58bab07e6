"""Keeps the positions of open partitions inside their logs while a worker reads."""

import asyncio
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from structlog.typing import FilteringBoundLogger

from streamer.kafka.delivery import Delivery
from streamer.kafka.lag import Lag
from streamer.kafka.split_offsets import SplitOffsets
from streamer.tasks import Spawn
from streamer.types import Partition

# A topic that is created again under a running worker is noticed after this time, if no fetch has failed before.
_CHECK_S = 10.0
_PASS_S = 0.2
_POLL_S = 0.05
# A broker that has just become the leader may reject a valid position.
_RETRY_S = 1.0


@dataclass(slots=True, eq=False)
class Positions:
    """Opens partitions again if their log lacks their position; passes offsets without a record.

    1. Only the partition itself waits. Its records in flight are answered first, for at most `drain_s`.
    2. No offset is passed while a record before it may be unanswered.
    """

    consumer: Any
    offsets: SplitOffsets
    delivery: Delivery
    lag: Lag
    log: FilteringBoundLogger
    clock: Callable[[], float]
    spawn: Spawn
    drain_s: float
    _reopening: set[Partition] = field(default_factory=set)
    _unserved: set[TopicPartition] = field(default_factory=set)
    _passed_at: float = 0.0

    def hold(self, assigned: Iterable[TopicPartition]) -> None:
        """Reads nothing of newly assigned partitions until they are opened."""
        tops = list(assigned)
        for top in tops:
            # With a position, aiokafka does not ask for the commits.
            self.consumer.seek(top, 0)
        self.consumer.pause(*tops)

    def out_of_range(self, tops: Iterable[TopicPartition]) -> None:
        """The brokers have no record at these positions: retention, a truncated log or a new topic."""
        for top in tops:
            self._reopen(top, is_out_of_range=True)

    def seek_back(self) -> None:
        """Seeks to the last received records, because aiokafka drops all records of a failed fetch."""
        assigned = self.consumer.assignment()
        for partition in self.delivery.partitions:
            offset = self.offsets.received_up_to(partition)
            if partition in assigned and offset is not None:
                self.consumer.seek(TopicPartition(*partition), offset)

    async def pass_markers(self, just_read: Container[TopicPartition]) -> None:
        """Passes offsets at which the log has no record: ends of transactions, compacted records.

        The caller reads no records meanwhile, and is about to receive those of `just_read`; other partitions had none.
        """
        now = self.clock()
        if now - self._passed_at < _PASS_S:
            return
        self._passed_at = now
        opened, closing = self.delivery.partitions, self.delivery.closing
        for top in self.consumer.assignment():
            if top in opened and top not in closing and top not in just_read:
                self.offsets.passed(top, await self.consumer.position(top))

    async def watch(self) -> None:
        """Looks for a topic that was created again, and for partitions that no broker serves."""
        while True:
            await asyncio.sleep(_CHECK_S)
            self._name(await self.lag.ask())
            try:
                topic = await self.delivery.topic_now(_CHECK_S / 3)
            except (KafkaError, TimeoutError) as error:
                self.log.debug("the topic's id is not known now", error=repr(error))
                continue
            for top in self.consumer.assignment():
                if self.delivery.is_of_another_topic(top, topic):
                    self._reopen(top, is_out_of_range=False)

    def _name(self, unserved: Iterable[TopicPartition]) -> None:
        """Names open partitions without a leader; aiokafka waits for a new one in silence."""
        unreadable, opened = self.delivery.metrics.unreadable, self.delivery.partitions
        named = {top for top in unserved if top in opened}
        for top in named:
            unreadable.labels(top.partition).set(1)
            if top not in self._unserved:
                at = self.offsets.received_up_to(top)
                self.log.error(
                    "partition cannot be read, retried", **top._asdict(), offset=at, error="no leader answers for it"
                )
        for top in self._unserved - named:
            unreadable.remove(top.partition)
            if top in opened:
                self.log.info("partition readable again", **top._asdict())
        self._unserved = named

    def _reopen(self, top: TopicPartition, *, is_out_of_range: bool) -> None:
        if top not in self.consumer.assignment():
            return
        # Until it is open: the backpressure may have resumed it.
        self.consumer.pause(top)
        if top in self.delivery.partitions and top not in self._reopening:
            self._reopening.add(top)
            self.spawn(self._reopened(top, is_out_of_range), "reopen partition")

    async def _reopened(self, partition: Partition, is_out_of_range: bool) -> None:
        try:
            until = self.clock() + self.drain_s
            if is_out_of_range:
                await asyncio.sleep(_RETRY_S)
            while self.offsets.unacknowledged_of([partition]) and self.clock() < until:  # noqa: ASYNC110  rare
                await asyncio.sleep(_POLL_S)
            await self.delivery.reopen(partition, is_out_of_range=is_out_of_range)
        finally:
            self._reopening.discard(partition)
