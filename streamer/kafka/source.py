"""Reads chunks of records and sets their deadlines. The only stage with the wall clock."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from structlog.typing import FilteringBoundLogger

from streamer.deadline import Deadline
from streamer.errors import StreamerError
from streamer.kafka.backpressure import Backpressure
from streamer.kafka.delivery import Delivery
from streamer.kafka.lag import Lag
from streamer.kafka.offsets import OffsetTracker
from streamer.metrics import Metrics
from streamer.settings.sections import SourceSettings
from streamer.types import Origin, Partition, Record

_POLL_MS = 100
_RETRY_S = 1.0


class Source(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Reads bid requests for one worker, as a member of a consumer group.

    1. The records that the worker holds are bounded: see `Backpressure`.
    2. Revoked partitions are drained for at most `revoke_s` and committed before the group goes on.
    3. An error of `Delivery` in a rebalance ends `chunks`.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        offsets: OffsetTracker,
        delivery: Delivery,
        settings: SourceSettings,
        *,
        metrics: Metrics,
        log: FilteringBoundLogger,
        revoke_s: float,
        max_uncommitted: int,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._consumer = consumer
        self._offsets = offsets
        self._delivery = delivery
        self._settings = settings
        self._metrics = metrics
        self._log = log
        self._revoke_s = revoke_s
        self._clock = clock
        self._wall_clock = wall_clock
        self._backpressure = Backpressure(offsets, settings, max_uncommitted)
        self._lag = Lag(consumer, offsets, metrics, wall_clock)
        self._changed = asyncio.Event()
        self._closing = False
        self._admission = asyncio.Lock()
        self._failure: StreamerError | None = None

    @property
    def unacknowledged(self) -> int:
        """Records received and not acknowledged."""
        return self._offsets.unacknowledged

    async def start(self) -> None:
        """Joins the group.

        Raises:
            KafkaError: the brokers cannot be reached or reject the member.
        """
        self._consumer.subscribe([self._settings.topic], listener=self)
        await self._consumer.start()

    async def chunks(self) -> AsyncIterator[list[Record]]:
        """Chunks of up to `max_poll_records` records, oldest first, until `close`.

        Raises:
            KafkaError: a background task of aiokafka has died.
            FencedError: another worker has a partition that this one still processes.
        """
        while not self._closing:
            if self._failure is not None:
                raise self._failure
            # An isolated record is committed before the next one is read.
            if self._delivery.is_isolating and not self.unacknowledged:
                await self.commit()
            if self._backpressure.paused:
                self._resume()
            room = self._backpressure.room(is_isolating=self._delivery.is_isolating)
            if room <= 0:
                await self._change()
                continue
            try:
                found = await self._consumer.getmany(
                    timeout_ms=_POLL_MS, max_records=min(room, self._settings.max_poll_records)
                )
                chunk = await self._admit([record for records in found.values() for record in records])
            except KafkaError as error:
                if type(error) is KafkaError:
                    # A background task of aiokafka has died; every later fetch would fail.
                    raise
                # A missing right or a damaged log. The worker goes on when an operator has repaired it.
                self._seek_back()
                self._metrics.fetch_failures.inc()
                self._log.error("fetch failed, retried", topic=self._settings.topic, error=repr(error))
                await asyncio.sleep(_RETRY_S)
                continue
            if chunk:
                self._pause(chunk)
                self._backpressure.in_flight += len(chunk)
                self._metrics.records.inc(len(chunk))
                self._measure()
                yield chunk

    def _seek_back(self) -> None:
        """Seeks to the last received records, because aiokafka drops all records of a failed fetch."""
        assigned = self._consumer.assignment()
        for partition in self._delivery.partitions:
            offset = self._offsets.received_up_to(partition)
            if partition in assigned and offset is not None:
                self._consumer.seek(TopicPartition(*partition), offset)

    def _pause(self, chunk: Sequence[Record]) -> None:
        read = {(record.origin.topic, record.origin.partition) for record in chunk}
        for partition in self._backpressure.pause(read, self._consumer.assignment()):
            self._consumer.pause(TopicPartition(*partition))
            left = self._offsets.unacknowledged_of([partition])
            self._log.warning("partition paused", partition=partition[1], unacknowledged=left)
        self._metrics.paused.set(len(self._backpressure.paused))

    def _resume(self) -> None:
        for partition in self._backpressure.resume(self._consumer.assignment()):
            self._consumer.resume(TopicPartition(*partition))
        self._metrics.paused.set(len(self._backpressure.paused))

    def answered(self) -> None:
        """A record's answer or dead letter is ready to publish; another record may be read."""
        self._backpressure.in_flight -= 1
        self._metrics.in_flight.set(self._backpressure.in_flight)
        self._changed.set()

    def acknowledged(self, origin: Origin) -> None:
        """The brokers have the record's answer or dead letter."""
        self._offsets.acknowledged((origin.topic, origin.partition), origin.offset)
        self._measure()
        self._changed.set()

    def close(self) -> None:
        """Stops reading; records that were read go on."""
        self._closing = True
        self._delivery.stop_retries()
        self._changed.set()

    async def join(self, deadline: Deadline) -> bool:
        """Waits until all records are acknowledged; False if the deadline passes first."""
        return await self._drained(lambda: self.unacknowledged, deadline)

    async def commit(self) -> None:
        """Commits all offsets that are safe. A failure is logged; the next commit covers it.

        Raises:
            FencedError: another worker has a partition that this one still processes.
        """
        await self._delivery.commit()
        self._changed.set()

    async def commit_when_due(self) -> None:
        """Waits until a commit is due, and commits."""
        await self._delivery.wait_until_due()
        await self.commit()

    async def leave(self) -> None:
        """Commits for the last time and releases all partitions.

        Raises:
            FencedError: as `commit`.
        """
        await self._delivery.close(self._delivery.partitions)

    def measure_lag(self) -> None:
        """Sets the lag gauges; sends no request."""
        self._lag.measure()

    async def stop(self) -> None:
        """Leaves the group."""
        await self._consumer.stop()

    async def on_partitions_assigned(self, assigned: Iterable[Partition]) -> None:
        """Opens assigned partitions."""
        await self._in_callback(self._delivery.open(assigned))

    async def on_partitions_revoked(self, revoked: Iterable[Partition]) -> None:
        """Drains partitions that the group takes away, for at most `revoke_s`, and commits for them."""
        going = list(revoked)
        deadline = Deadline.after(self._clock(), self._revoke_s * 1e3)
        self._delivery.stop_retries()
        async with self._admission:
            if not await self._drained(lambda: self._offsets.unacknowledged_of(going), deadline):
                left = self._offsets.unacknowledged_of(going)
                self._log.warning("partitions revoked before they were drained", unacknowledged=left)
            await self._in_callback(self._delivery.close(going))

    async def _in_callback(self, work: Coroutine[Any, Any, None]) -> None:
        """Keeps an error for `chunks`, because aiokafka ignores the errors of its callbacks."""
        try:
            await work
        except StreamerError as error:
            self._failure = error
            self._changed.set()

    async def _admit(self, records: Sequence[ConsumerRecord]) -> list[Record]:
        async with self._admission:
            if not records and self._delivery.is_isolating:
                await self._delivery.end_isolation()
            return [self._receive(one.record, one.is_suspect) for one in await self._delivery.admit(records)]

    def _measure(self) -> None:
        self._metrics.in_flight.set(self._backpressure.in_flight)
        self._metrics.unacknowledged.set(self.unacknowledged)
        self._metrics.unacknowledged_bytes.set(self._offsets.unacknowledged_bytes)

    def _receive(self, record: ConsumerRecord, is_suspect: bool) -> Record:
        size = len(record.key or b"") + len(record.value or b"")
        self._offsets.received((record.topic, record.partition), record.offset, size)
        now, wall = self._clock(), self._wall_clock()
        # A producer that sets no timestamp leaves -1; then the record's time is that of its receipt.
        written = record.timestamp / 1e3 if record.timestamp >= 0 else wall
        self._lag.received(record.partition, written)
        # A timestamp in the future comes from a clock that disagrees; it counts as now.
        age_s = max(0.0, wall - written) if self._settings.deadline_from == "record" else 0.0
        return Record(
            key=record.key,
            value=record.value,
            headers=tuple(record.headers),
            origin=Origin(record.topic, record.partition, record.offset),
            timestamp_ms=record.timestamp,
            deadline=Deadline.after(now - age_s, self._settings.budget_ms),
            at=now,
            is_suspect=is_suspect,
        )

    async def _drained(self, left: Callable[[], int], deadline: Deadline) -> bool:
        while left():
            remaining = deadline.remaining(self._clock())
            if remaining <= 0:
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._change()
        return True

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
