"""Pauses partitions with too many unacknowledged records, as `Backpressure` decides."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from structlog.typing import FilteringBoundLogger

from streamer.kafka.backpressure import Backpressure
from streamer.kafka.offsets import OffsetTracker
from streamer.metrics import Metrics
from streamer.types import Partition, Record


@dataclass(frozen=True, slots=True)
class PausedPartitions:
    """Pauses and resumes partitions of a consumer."""

    consumer: Any
    backpressure: Backpressure
    offsets: OffsetTracker
    metrics: Metrics
    log: FilteringBoundLogger

    def after(self, chunk: Sequence[Record]) -> None:
        """Pauses partitions that are above their share after this chunk."""
        read = {(record.origin.topic, record.origin.partition) for record in chunk}
        for partition in self.backpressure.pause(read, self.consumer.assignment()):
            self.consumer.pause(TopicPartition(*partition))
            left = self.offsets.unacknowledged_of([partition])
            self.log.warning("partition paused", partition=partition[1], unacknowledged=left)
        self.metrics.paused.set(len(self.backpressure.paused))

    def resume(self, opened: Collection[Partition]) -> None:
        """Resumes partitions whose share is half acknowledged; forgets those that are not open."""
        if self.backpressure.paused:
            for partition in self.backpressure.resume(opened):
                self.consumer.resume(TopicPartition(*partition))
            self.metrics.paused.set(len(self.backpressure.paused))
