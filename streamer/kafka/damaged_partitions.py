"""Pauses partitions that cannot be read, so that the others go on."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiokafka import ConsumerRecord, TopicPartition
from prometheus_client import Counter, Gauge
from structlog.typing import FilteringBoundLogger

from streamer.kafka.record_batches import DamagedLog
from streamer.types import Partition

_RETRY_S = 1.0
_MAX_RETRY_S = 30.0


class FetchMetrics(Protocol):
    """The metrics of one reader."""

    unreadable: Gauge
    fetch_failures: Counter


@dataclass(slots=True)
class DamagedPartitions:
    """The partitions of a consumer that cannot be read now.

    Each is tried again after 1 s, then after twice the time, at most 30 s.
    """

    metrics: FetchMetrics
    log: FilteringBoundLogger
    clock: Callable[[], float]
    # The time of the next try and the pause before it, in seconds.
    _tries: dict[TopicPartition, tuple[float, float]] = field(default_factory=dict)

    @property
    def numbers(self) -> list[int]:
        """The partitions that cannot be read now."""
        return sorted(top.partition for top in self._tries)

    def resume(self, consumer: Any, read: Collection[Partition]) -> None:
        """Resumes the partitions whose next try is due; forgets those that are not `read` any more."""
        if not self._tries:
            return
        now = self.clock()
        for top in [top for top in self._tries if top not in read]:
            self._forget(top)
        for top, (due, pause_s) in self._tries.items():
            if due <= now:
                self._tries[top] = now + pause_s, pause_s
                consumer.resume(top)

    def forget(self) -> None:
        """The consumer reads no partition any more."""
        for top in list(self._tries):
            self._forget(top)

    def readable(self, consumer: Any, found: Iterable[Sequence[ConsumerRecord]]) -> list[ConsumerRecord]:
        """The records of a fetch, given by partition; pauses the partitions that it cannot read."""
        records: list[ConsumerRecord] = []
        for of_partition in found:
            *before, last = of_partition
            if isinstance(last, DamagedLog):
                records += before
                if not before:
                    self._pause(consumer, last)
            else:
                records += of_partition
                if self._forget(TopicPartition(last.topic, last.partition)):
                    self.log.info("partition readable again", topic=last.topic, partition=last.partition)
        return records

    def _pause(self, consumer: Any, damage: DamagedLog) -> None:
        top = TopicPartition(damage.topic, damage.partition)
        pause_s = min(_MAX_RETRY_S, 2 * self._tries[top][1]) if top in self._tries else _RETRY_S
        self._tries[top] = self.clock() + pause_s, pause_s
        consumer.pause(top)
        self.metrics.unreadable.labels(damage.partition).set(1)
        self.metrics.fetch_failures.inc()
        self.log.error(
            "partition cannot be read, retried",
            topic=damage.topic,
            partition=damage.partition,
            offset=damage.offset,
            retry_s=pause_s,
            error=damage.reason,
        )

    def _forget(self, top: TopicPartition) -> bool:
        if self._tries.pop(top, None) is None:
            return False
        self.metrics.unreadable.remove(top.partition)
        return True
