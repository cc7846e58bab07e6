"""Measures how far a worker is behind the end of its partitions."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streamer.kafka.split_offsets import SplitOffsets
from streamer.metrics import Metrics

_STALE_S = 5.0
_ASK_S = 2.0


@dataclass(slots=True)
class Lag:
    """Sets the lag gauges of assigned partitions, and removes those of lost partitions.

    A partition's lag in seconds is the age of the last record that was read, or the time since the partition had no
    lag, if that is shorter; before the first record, the time since it was opened.
    """

    consumer: AIOKafkaConsumer
    offsets: SplitOffsets
    metrics: Metrics
    wall_clock: Callable[[], float]
    _measured: set[int] = field(default_factory=set)
    # Seconds since the epoch: the last record's timestamp, the last time without a lag, the first measurement.
    _written_s: dict[int, float] = field(default_factory=dict)
    _at_end_s: dict[int, float] = field(default_factory=dict)
    _opened_s: dict[int, float] = field(default_factory=dict)
    # End offsets of partitions that are not fetched.
    _ends: dict[TopicPartition, int] = field(default_factory=dict)

    def received(self, partition: int, written_s: float) -> None:
        """A record of the partition was read; `written_s` is its timestamp, seconds since the epoch."""
        self._written_s[partition] = written_s

    def fetches(self) -> list[int | None]:
        """The times of the last replies to fetches by partition, in milliseconds; None before."""
        return [self.consumer.last_poll_timestamp(top) for top in self.consumer.assignment()]

    async def ask(self) -> set[TopicPartition]:
        """Asks for the ends of partitions that are not fetched, as while reading pauses.

        Sends no request while all are fetched. Returns those that no broker serves now.
        """
        stale_ms = (self.wall_clock() - _STALE_S) * 1e3
        stale = [top for top in self.consumer.assignment() if (self.consumer.last_poll_timestamp(top) or 0) < stale_ms]
        # One by one: a partition without a leader must not hide the others.
        found = await asyncio.gather(*map(self._end, stale))
        known = {top: self._ends[top] for top in stale if top in self._ends}
        ends = {top: end for top, end in zip(stale, found, strict=True) if end is not None}
        self._ends = known | ends
        return set(stale) - ends.keys()

    async def _end(self, top: TopicPartition) -> int | None:
        try:
            async with asyncio.timeout(_ASK_S):
                return int((await self.consumer.end_offsets([top]))[top])
        except (KafkaError, TimeoutError):
            return None

    def measure(self) -> None:
        """Sets the gauges from the last fetches and the last `ask`; sends no request."""
        assigned, now = self.consumer.assignment(), self.wall_clock()
        self.metrics.backlog.set(self.offsets.backlog)
        for lost in self._measured - {top.partition for top in assigned}:
            self._measured.remove(lost)
            for times in (self._written_s, self._at_end_s, self._opened_s):
                times.pop(lost, None)
            self.metrics.lag.remove(lost)
            self.metrics.lag_seconds.remove(lost)
        for top in assigned:
            number, position = top.partition, self.offsets.live.acknowledged_up_to(top)
            ends = [end for end in (self.consumer.highwater(top), self._ends.get(top)) if end is not None]
            if not ends or position is None:
                continue
            self._measured.add(number)
            behind = max(0, max(ends) - position)
            opened_s = self._opened_s.setdefault(number, now)
            if not behind:
                self._at_end_s[number] = now
            known_s = [times[number] for times in (self._written_s, self._at_end_s) if number in times]
            self.metrics.lag.labels(number).set(behind + self.offsets.backlog_of(top))
            self.metrics.lag_seconds.labels(number).set(max(0.0, now - max(known_s, default=opened_s)))
