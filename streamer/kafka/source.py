"""Ingest: chunks of records, bounded in flight, each with its deadline. Here, and only here, is the wall clock read."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from math import inf
from typing import Any, NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from structlog.typing import FilteringBoundLogger

from streamer.deadline import Deadline
from streamer.errors import StreamerError
from streamer.metrics import Metrics
from streamer.settings.sections import SourceSettings
from streamer.types import Origin, Partition, Record

_POLL_MS = 100
_RETRY_S = 1.0


class Admitted(NamedTuple):
    """A record that may be worked on; `is_suspect` where its worker has crashed while it was alone in flight."""

    record: ConsumerRecord
    is_suspect: bool


class Offsets(Protocol):
    """What the source needs of the offsets stage; `kafka.offsets.OffsetTracker` says what each one promises."""

    @property
    def in_flight(self) -> int: ...
    @property
    def unacknowledged_bytes(self) -> int: ...
    @property
    def uncommitted(self) -> int: ...
    def received(self, partition: Partition, offset: int, size: int) -> None: ...
    def done(self, partition: Partition, offset: int) -> None: ...
    def read_up_to(self, partition: Partition) -> int | None: ...
    def received_up_to(self, partition: Partition) -> int | None: ...
    def in_flight_of(self, partitions: Iterable[Partition]) -> int: ...


class Guarantee(Protocol):
    """What the source needs to know of delivery; `streamer.kafka.delivery.Delivery` says what each one promises."""

    @property
    def is_careful(self) -> bool: ...
    @property
    def partitions(self) -> frozenset[Partition]: ...
    async def open(self, partitions: Iterable[Partition]) -> None: ...
    async def admit(self, records: Sequence[ConsumerRecord]) -> list[Admitted]: ...
    async def end_care(self) -> None: ...
    async def wait(self) -> None: ...
    async def commit(self) -> None: ...
    async def close(self, partitions: Iterable[Partition]) -> None: ...
    def give_up(self) -> None: ...


class Source:
    """Reads bid requests for one worker, as a member of a consumer group.

    Promises: at most `max_in_flight_records` are in flight, `max_unacknowledged_records` unacknowledged and
    `max_uncommitted_records` uncommitted; above `max_unacknowledged_bytes` no further chunk is
    read; a partition with more than its share of them is paused, so that the others go on;
    partitions that are taken away are committed first, as far as their work ends in time.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        offsets: Offsets,
        delivery: Guarantee,
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
        self._settings = settings
        self._metrics = metrics
        self._log = log
        self._delivery = delivery
        self._revoke_s = revoke_s
        self._max_uncommitted = max_uncommitted
        self._clock = clock
        self._wall_clock = wall_clock
        self._offsets = offsets
        self._changed = asyncio.Event()
        self._closing = False
        self._unanswered = 0
        self._read_s: dict[int, float] = {}
        self._measured: set[int] = set()
        self._most = settings.max_unacknowledged_records * settings.max_partition_share
        self._paused: set[TopicPartition] = set()
        self._admission = asyncio.Lock()
        self._failure: StreamerError | None = None

    def __repr__(self) -> str:
        return f"<Source {self._offsets.in_flight} in flight{', closing' * self._closing}>"

    @property
    def in_flight(self) -> int:
        """Records received and not done."""
        return self._offsets.in_flight

    async def start(self) -> None:
        """Joins the group.

        Raises:
            KafkaError: the brokers cannot be reached or refuse.
        """
        self._consumer.subscribe([self._settings.topic], listener=_Listener(self))
        await self._consumer.start()

    async def chunks(self) -> AsyncIterator[list[Record]]:
        """Chunks of up to `max_poll_records` records, oldest first, until `close`."""
        while not self._closing:
            if self._failure is not None:
                raise self._failure
            if self._delivery.is_careful and not self._offsets.in_flight:
                await self.commit()
            if self._paused:
                self._resume()
            room = self.room()
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
                    # The end of one of the client's own tasks: it would say so for ever, and never read again.
                    raise
                # Forbidden of late, or a log that is damaged: whoever repairs it need not restart us.
                self._read_again()
                self._metrics.fetch_failures.inc()
                self._log.error("records cannot be read, tried again", topic=self._settings.topic, error=repr(error))
                await asyncio.sleep(_RETRY_S)
                continue
            if chunk:
                self._pause(chunk)
                self._unanswered += len(chunk)
                self._metrics.records.inc(len(chunk))
                self._measure_in_flight()
                yield chunk

    def room(self) -> int:
        """How many records may be read now; 0 or less: none until one is done, or committed."""
        offsets, settings = self._offsets, self._settings
        if self._delivery.is_careful:
            return int(not offsets.in_flight)
        if offsets.unacknowledged_bytes >= settings.max_unacknowledged_bytes:
            return 0
        return min(
            settings.max_in_flight_records - self._unanswered,
            settings.max_unacknowledged_records - offsets.in_flight,
            self._max_uncommitted - offsets.uncommitted,
        )

    def _read_again(self) -> None:
        """Goes back to what was received: a client that fails at one partition drops what it has found in others."""
        assigned = self._consumer.assignment()
        for partition in self._delivery.partitions:
            top, offset = TopicPartition(*partition), self._offsets.received_up_to(partition)
            if top in assigned and offset is not None:
                self._consumer.seek(top, offset)

    def _pause(self, chunk: Sequence[Record]) -> None:
        """Pauses those of the partitions just read whose records do not get done, unless there is no other."""
        for top in {TopicPartition(record.origin.topic, record.origin.partition) for record in chunk}:
            left = self._offsets.in_flight_of([(top.topic, top.partition)])
            if left < self._most:
                continue
            assigned = self._consumer.assignment()
            if top in assigned and len(assigned) > 1:
                self._consumer.pause(top)
                self._paused.add(top)
                self._metrics.paused.set(len(self._paused))
                self._log.warning("partition paused, its records stay undone", partition=top.partition, records=left)

    def _resume(self) -> None:
        """Resumes paused partitions where most is done. One that is assigned anew is not paused any more."""
        self._paused &= self._consumer.assignment()
        for top in list(self._paused):
            if self._offsets.in_flight_of([(top.topic, top.partition)]) <= self._most / 2:
                self._consumer.resume(top)
                self._paused.remove(top)
        self._metrics.paused.set(len(self._paused))

    def answered(self) -> None:
        """What becomes of one record is known, and is on its way to the brokers: another one may be read."""
        self._unanswered -= 1
        self._changed.set()

    def acknowledged(self, origin: Origin) -> None:
        """The record has been answered or dead-lettered, for good."""
        self._offsets.done((origin.topic, origin.partition), origin.offset)
        self._measure_in_flight()
        self._changed.set()

    def close(self) -> None:
        """Reads no more; what is in flight goes on."""
        self._closing = True
        self._delivery.give_up()
        self._changed.set()

    async def join(self, deadline: Deadline) -> bool:
        """Waits until nothing is in flight; False if the deadline came first."""
        return await self._settled(lambda: self._offsets.in_flight, deadline)

    async def commit(self) -> None:
        """Commits what is safe. A refusal is counted and logged; the next commit covers it.

        Raises:
            FencedError: another worker has a partition that we still work on.
        """
        await self._delivery.commit()
        self._changed.set()

    async def commit_when_due(self) -> None:
        """Waits until a commit is due, and commits."""
        await self._delivery.wait()
        await self.commit()

    async def leave(self) -> None:
        """Gives up all partitions, behind a last commit.

        Raises:
            FencedError: as `commit`.
        """
        await self._delivery.close(self._delivery.partitions)

    def measure_lag(self) -> None:
        """Sets the lag gauges from what the last fetches said; asks nobody. Partitions of others have none here."""
        assigned = self._consumer.assignment()
        for gone in self._measured - {partition.partition for partition in assigned}:
            self._measured.remove(gone)
            self._metrics.lag.remove(gone)
            self._metrics.lag_seconds.remove(gone)
        for partition in assigned:
            end = self._consumer.highwater(partition)
            at = self._offsets.read_up_to((partition.topic, partition.partition))
            if end is not None and at is not None:
                self._measured.add(partition.partition)
                behind = max(0, end - at)
                age = self._wall_clock() - self._read_s.get(partition.partition, inf)
                self._metrics.lag.labels(partition.partition).set(behind)
                self._metrics.lag_seconds.labels(partition.partition).set(max(0.0, age) if behind else 0.0)

    async def stop(self) -> None:
        """Leaves the group."""
        await self._consumer.stop()

    async def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Partitions are ours now."""
        await self._in_callback(self._delivery.open([(p.topic, p.partition) for p in partitions]))

    async def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """Partitions are about to be taken away: their work is finished, as far as there is time, and committed."""
        going = [(p.topic, p.partition) for p in partitions]
        deadline = Deadline.after(self._clock(), self._revoke_s * 1e3)
        self._delivery.give_up()
        async with self._admission:
            if not await self._settled(lambda: self._offsets.in_flight_of(going), deadline):
                left = self._offsets.in_flight_of(going)
                self._log.warning("partitions go with records in flight, somebody will answer them again", records=left)
            await self._in_callback(self._delivery.close(going))

    async def _in_callback(self, work: Coroutine[Any, Any, None]) -> None:
        """The client swallows what its callbacks raise: whoever reads is to have it."""
        try:
            await work
        except StreamerError as error:
            self._failure = error
            self._changed.set()

    async def _admit(self, records: Sequence[ConsumerRecord]) -> list[Record]:
        async with self._admission:
            if not records and self._delivery.is_careful:
                await self._delivery.end_care()
            return [self._receive(one.record, one.is_suspect) for one in await self._delivery.admit(records)]

    def _measure_in_flight(self) -> None:
        self._metrics.in_flight.set(self._offsets.in_flight)
        self._metrics.unacknowledged_bytes.set(self._offsets.unacknowledged_bytes)

    def _receive(self, record: ConsumerRecord, is_suspect: bool) -> Record:
        size = len(record.key or b"") + len(record.value or b"")
        self._offsets.received((record.topic, record.partition), record.offset, size)
        now, wall = self._clock(), self._wall_clock()
        # A client that sets no timestamp leaves -1: nobody knows more than that the record is here.
        written = record.timestamp / 1e3 if record.timestamp >= 0 else wall
        self._read_s[record.partition] = written
        start = now
        if self._settings.deadline_from == "record":
            # A timestamp in the future is a clock that disagrees: it counts as now.
            start -= max(0.0, wall - written)
        return Record(
            key=record.key,
            value=record.value,
            headers=tuple(record.headers),
            origin=Origin(record.topic, record.partition, record.offset),
            timestamp_ms=record.timestamp,
            deadline=Deadline.after(start, self._settings.budget_ms),
            at=now,
            is_suspect=is_suspect,
        )

    async def _settled(self, left: Callable[[], int], deadline: Deadline) -> bool:
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


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, source: Source) -> None:
        self._source = source

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._source.revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._source.assigned(assigned)
