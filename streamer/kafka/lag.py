"""Measures how far a worker is behind the end of its partitions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from aiokafka import AIOKafkaConsumer

from streamer.kafka.split_offsets import SplitOffsets
from streamer.metrics import Metrics


@dataclass(slots=True)
class Lag:
    """Sets the lag gauges of assigned partitions, and removes those of lost partitions."""

    consumer: AIOKafkaConsumer
    offsets: SplitOffsets
    metrics: Metrics
    wall_clock: Callable[[], float]
    _measured: set[int] = field(default_factory=set)
    _written_s: dict[int, float] = field(default_factory=dict)

    def received(self, partition: int, written_s: float) -> None:
        """A record of the partition was read; `written_s` is its timestamp, seconds since the epoch."""
        self._written_s[partition] = written_s

    def measure(self) -> None:
        """Sets the gauges from the end offsets that came with the last fetches; sends no request."""
        assigned = self.consumer.assignment()
        self.metrics.backlog.set(self.offsets.backlog)
        for lost in self._measured - {top.partition for top in assigned}:
            self._measured.remove(lost)
            self.metrics.lag.remove(lost)
            self.metrics.lag_seconds.remove(lost)
        for top in assigned:
            end, position = self.consumer.highwater(top), self.offsets.live.acknowledged_up_to(top)
            if end is not None and position is not None:
                self._measured.add(top.partition)
                behind = max(0, end - position)
                backlog = self.offsets.backlog_of(top)
                age_s = self.wall_clock() - self._written_s.get(top.partition, inf)
                self.metrics.lag.labels(top.partition).set(behind + backlog)
                self.metrics.lag_seconds.labels(top.partition).set(max(0.0, age_s) if behind else 0.0)
