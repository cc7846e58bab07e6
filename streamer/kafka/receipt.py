"""Receives records and sets their deadlines. The only stage with the wall clock."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from aiokafka import ConsumerRecord

from streamer.codec import size_in_memory
from streamer.deadline import Deadline
from streamer.kafka.record_batches import UnreadableRecord
from streamer.kafka.split_offsets import SplitOffsets
from streamer.metrics import Metrics
from streamer.settings.sections import SourceSettings
from streamer.types import Origin, Record

WALL_CLOCK = time.time


class Admitted(NamedTuple):
    """A record to process; `is_suspect` if it was alone in flight when workers died."""

    record: ConsumerRecord
    is_suspect: bool


@dataclass(frozen=True, slots=True)
class Receipt:
    """Makes records of what the consumers have read."""

    offsets: SplitOffsets
    settings: SourceSettings
    metrics: Metrics
    clock: Callable[[], float]
    wall_clock: Callable[[], float]

    def written_s(self, record: ConsumerRecord) -> float:
        """When a record was written, seconds since the epoch; now if it has no timestamp."""
        return float(record.timestamp / 1e3 if record.timestamp >= 0 else self.wall_clock())

    def receive(self, record: ConsumerRecord, is_suspect: bool = False) -> Record:
        """Counts a record as received; its budget began when it was written."""
        size = size_in_memory(record.key, record.value, record.headers)
        self.offsets.received((record.topic, record.partition), record.offset, size)
        self.metrics.records.inc()
        now, age_s = self.clock(), 0.0
        if self.settings.deadline_from == "record":
            # A timestamp in the future comes from a clock that disagrees; it counts as now.
            age_s = max(0.0, self.wall_clock() - self.written_s(record))
        return Record(
            key=record.key,
            value=record.value,
            headers=tuple(record.headers),
            origin=Origin(record.topic, record.partition, record.offset),
            timestamp_ms=record.timestamp,
            deadline=Deadline.after(now - age_s, self.settings.budget_ms),
            at=now,
            is_suspect=is_suspect,
            unreadable=record.reason if isinstance(record, UnreadableRecord) else None,
        )
