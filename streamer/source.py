"""Ingest: chunks of records, bounded in flight, each with its deadline. Here, and only here, is the wall clock read."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from structlog.typing import FilteringBoundLogger

from streamer.deadline import Deadline
from streamer.metrics import Metrics
from streamer.settings import SourceSettings
from streamer.types import Header, Origin, Partition

_POLL_MS = 100
_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Received:
    """One record as it came in.

    Attributes:
        deadline: by the default budget, from the record's timestamp or its receipt, in monotonic seconds.
        at: when it was received, monotonic seconds.
        timestamp_ms: the record's own timestamp, milliseconds since the epoch.
    """

    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    origin: Origin
    timestamp_ms: int
    deadline: Deadline
    at: float


class Offsets(Protocol):
    """What the source needs of the offsets stage; `streamer.offsets.OffsetTracker` says what each one promises."""

    @property
    def in_flight(self) -> int: ...
    def received(self, partition: Partition, offset: int) -> None: ...
    def done(self, partition: Partition, offset: int) -> None: ...
    def committable(self) -> dict[Partition, int]: ...
    def committed(self, offsets: Mapping[Partition, int]) -> None: ...
    def read_up_to(self, partition: Partition) -> int | None: ...
    def in_flight_of(self, partitions: Iterable[Partition]) -> int: ...
    def forget(self, partitions: Iterable[Partition]) -> None: ...


class Source:
    """Reads bid requests for one worker, as a member of a consumer group.

    Promises: at most `max_in_flight_records` are received and not answered, and at most `max_unacknowledged_records`
    are not done (then nothing is read); an offset is committed only when everything before it is done; partitions that
    are taken away are committed first, as far as their work ends in time.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        offsets: Offsets,
        settings: SourceSettings,
        metrics: Metrics,
        log: FilteringBoundLogger,
        *,
        revoke_s: float,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._consumer = consumer
        self._settings = settings
        self._metrics = metrics
        self._log = log
        self._revoke_s = revoke_s
        self._clock = clock
        self._wall_clock = wall_clock
        self._offsets = offsets
        self._changed = asyncio.Event()
        self._closing = False
        self._unanswered = 0
        self._read_s: dict[int, float] = {}

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

    async def chunks(self) -> AsyncIterator[list[Received]]:
        """Chunks of up to `max_poll_records` records, oldest first, until `close`."""
        while not self._closing:
            room = min(
                self._settings.max_in_flight_records - self._unanswered,
                self._settings.max_unacknowledged_records - self._offsets.in_flight,
            )
            if room <= 0:
                await self._change()
                continue
            try:
                found = await self._consumer.getmany(
                    timeout_ms=_POLL_MS, max_records=min(room, self._settings.max_poll_records)
                )
            except KafkaError as error:
                # Forbidden of late, or a log that is damaged: whoever repairs it need not restart us.
                self._metrics.fetch_failures.inc()
                self._log.error("records cannot be read, tried again", topic=self._settings.topic, error=repr(error))
                await asyncio.sleep(_RETRY_S)
                continue
            chunk = [self._receive(record) for records in found.values() for record in records]
            if chunk:
                self._unanswered += len(chunk)
                self._metrics.records.inc(len(chunk))
                self._metrics.in_flight.set(self._offsets.in_flight)
                yield chunk

    def answered(self) -> None:
        """What becomes of one record is known, and is on its way to the brokers: another one may be read."""
        self._unanswered -= 1
        self._changed.set()

    def done(self, origin: Origin) -> None:
        """The record has been answered or dead-lettered, for good."""
        self._offsets.done((origin.topic, origin.partition), origin.offset)
        self._metrics.in_flight.set(self._offsets.in_flight)
        self._changed.set()

    def close(self) -> None:
        """Reads no more; what is in flight goes on."""
        self._closing = True
        self._changed.set()

    async def join(self, deadline: Deadline) -> bool:
        """Waits until nothing is in flight; False if the deadline came first."""
        return await self._settled(lambda: self._offsets.in_flight, deadline)

    async def commit(self) -> None:
        """Commits what is safe. A refusal is counted and logged; the next commit covers it."""
        offsets = self._offsets.committable()
        if not offsets:
            return
        try:
            await self._consumer.commit({TopicPartition(*p): offset for p, offset in offsets.items()})
        except KafkaError as error:
            self._metrics.commit_failures.inc()
            self._log.warning("commit refused, tried again with the next one", error=repr(error))
        else:
            self._offsets.committed(offsets)
            self._metrics.commits.inc()

    def measure_lag(self) -> None:
        """Sets the lag gauges from what the last fetches said; asks nobody."""
        for partition in self._consumer.assignment():
            end = self._consumer.highwater(partition)
            at = self._offsets.read_up_to((partition.topic, partition.partition))
            if end is not None and at is not None:
                behind = max(0, end - at)
                age = self._wall_clock() - self._read_s.get(partition.partition, inf)
                self._metrics.lag.labels(partition.partition).set(behind)
                self._metrics.lag_seconds.labels(partition.partition).set(max(0.0, age) if behind else 0.0)

    async def stop(self) -> None:
        """Leaves the group."""
        await self._consumer.stop()

    async def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """Partitions are about to be taken away: their work is finished, as far as there is time, and committed."""
        going = [(p.topic, p.partition) for p in partitions]
        deadline = Deadline.after(self._clock(), self._revoke_s * 1e3)
        if not await self._settled(lambda: self._offsets.in_flight_of(going), deadline):
            left = self._offsets.in_flight_of(going)
            self._log.warning("partitions go with records in flight, somebody will answer them again", records=left)
        await self.commit()
        self._offsets.forget(going)

    def _receive(self, record: ConsumerRecord) -> Received:
        self._offsets.received((record.topic, record.partition), record.offset)
        self._read_s[record.partition] = record.timestamp / 1e3
        now = self._clock()
        start = now
        if self._settings.deadline_from == "record":
            # A timestamp in the future is a clock that disagrees: it counts as now.
            start -= max(0.0, self._wall_clock() - record.timestamp / 1e3)
        return Received(
            key=record.key,
            value=record.value,
            headers=tuple(record.headers),
            origin=Origin(record.topic, record.partition, record.offset),
            timestamp_ms=record.timestamp,
            deadline=Deadline.after(start, self._settings.budget_ms),
            at=now,
        )

    async def _settled(self, left: Callable[[], int], deadline: Deadline) -> bool:
        while left():
            remaining = deadline.remaining(self._clock())
            if remaining <= 0:
                return False
            try:
                await asyncio.wait_for(self._change(), remaining)
            except TimeoutError:
                return not left()
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
        pass
