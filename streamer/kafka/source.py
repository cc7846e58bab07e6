"""Reads chunks of records, and gives up partitions in order."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from structlog.typing import FilteringBoundLogger

from streamer.deadline import Deadline
from streamer.errors import ConfigError, StreamerError
from streamer.kafka.aiokafka_coordinator import MemberRejectedError
from streamer.kafka.backlog_reader import BacklogReader
from streamer.kafka.backpressure import Backpressure
from streamer.kafka.damaged_partitions import DamagedPartitions
from streamer.kafka.delivery import Delivery
from streamer.kafka.lag import Lag
from streamer.kafka.paused_partitions import PausedPartitions
from streamer.kafka.positions import Positions
from streamer.kafka.receipt import Receipt
from streamer.kafka.split_offsets import SplitOffsets
from streamer.metrics import Metrics
from streamer.settings.sections import SourceSettings
from streamer.types import Origin, Partition, Record

_POLL_MS = 100
_RETRY_S = 1.0


@dataclass(slots=True, eq=False)
class Source(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Reads bid requests for one worker, as a member of a consumer group.

    1. The records that the worker holds are bounded: see `Backpressure`.
    2. Revoked partitions are drained for at most `revoke_s` and committed before the group goes on.
    3. An error of `Delivery` in a rebalance ends `chunks`.
    """

    consumer: AIOKafkaConsumer
    offsets: SplitOffsets
    delivery: Delivery
    backpressure: Backpressure
    lag: Lag
    positions: Positions
    settings: SourceSettings
    metrics: Metrics
    log: FilteringBoundLogger
    receipt: Receipt
    clock: Callable[[], float]
    revoke_s: float
    new_backlog_consumer: Callable[[], Any]
    backlog: BacklogReader = field(init=False)
    """Reads older records, beside `chunks`."""
    _paused: PausedPartitions = field(init=False)
    _damaged: DamagedPartitions = field(init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _closing: bool = False
    _stopped: bool = False
    _admission: asyncio.Lock = field(default_factory=asyncio.Lock)
    _failure: StreamerError | None = None

    def __post_init__(self) -> None:
        # Read at a scrape only, not set for each record.
        self.metrics.in_flight.set_function(lambda: self.backpressure.in_flight)
        self.metrics.unacknowledged.set_function(lambda: self.unacknowledged)
        self.metrics.unacknowledged_bytes.set_function(lambda: self.offsets.unacknowledged_bytes)
        self._paused = PausedPartitions(self.consumer, self.backpressure, self.offsets.live, self.metrics, self.log)
        self._damaged = DamagedPartitions(self.metrics, self.log, self.clock)
        self.backlog = BacklogReader(
            self.new_backlog_consumer,
            self.offsets,
            self.delivery,
            self.receipt.receive,
            self.acknowledged,
            self._admission,
            self.delivery.backlog.opened,
            self.positions.out_of_range,
            self.settings,
            self.backpressure.max_uncommitted,
            self.metrics,
            self.log,
            self.clock,
        )

    @property
    def unacknowledged(self) -> int:
        """Records received and not acknowledged."""
        return self.offsets.unacknowledged

    async def start(self) -> None:
        """Joins the group.

        Raises:
            ConfigError: the group rejects this member, or another process has taken its static name.
            KafkaError: the brokers cannot be reached or reject the connection.
        """
        self.consumer.subscribe([self.settings.topic], listener=self)
        try:
            await self.consumer.start()
        except MemberRejectedError as error:
            raise ConfigError(str(error)) from error

    async def chunks(self) -> AsyncIterator[list[Record]]:
        """Chunks of up to `max_poll_records` records, oldest first, until `close`.

        Raises:
            ConfigError: the group rejects this member, or another process has taken its static name.
            KafkaError: a background task of aiokafka has died.
            FencedError: another worker has a partition that this one still processes.
        """
        while not self._closing:
            if self._failure is not None:
                raise self._failure
            # An isolated record is committed before the next one is read.
            if self.delivery.is_isolating and not self.unacknowledged:
                await self.commit()
                if self.offsets.committable():
                    await asyncio.sleep(_POLL_MS / 1e3)
                    continue
            self._paused.resume(self.delivery.partitions)
            self._damaged.resume(self.consumer, self.delivery.partitions)
            room = self.backpressure.room(is_isolating=self.delivery.is_isolating)
            if room <= 0 or (self.delivery.is_isolating and self.unacknowledged):
                await self._change()
                continue
            try:
                found = await self.consumer.getmany(
                    timeout_ms=_POLL_MS, max_records=min(room, self.settings.max_poll_records)
                )
                # Before the records are received: an error makes them be read again.
                await self.positions.pass_markers(found)
                chunk = await self._admit(self._damaged.readable(self.consumer, found.values()))
            except OffsetOutOfRangeError as error:
                self.positions.out_of_range(error.args[0])
                continue
            except MemberRejectedError as error:
                raise ConfigError(str(error)) from error
            except KafkaError as error:
                if type(error) is KafkaError:
                    # A background task of aiokafka has died; every later fetch would fail.
                    raise
                # A missing right. The worker goes on when an operator has repaired it.
                self.positions.seek_back()
                self.metrics.fetch_failures.inc()
                self.log.error(  # noqa: TRY400  an operator needs no traceback of aiokafka
                    "fetch failed, retried", topic=self.settings.topic, error=repr(error)
                )
                await asyncio.sleep(_RETRY_S)
                continue
            if chunk:
                self._paused.after(chunk)
                self.backpressure.in_flight += len(chunk)
                yield chunk

    def answered(self) -> None:
        """A record's answer or dead letter is ready to publish; another record may be read."""
        self.backpressure.in_flight -= 1
        self._changed.set()

    def acknowledged(self, origin: Origin) -> None:
        """The brokers have the record's answer or dead letter."""
        self.offsets.acknowledged((origin.topic, origin.partition), origin.offset)
        self.metrics.acknowledged.inc()
        self._changed.set()

    def close(self) -> None:
        """Stops reading; records that were read go on."""
        self._closing = True
        self.backlog.close()
        self.delivery.stop_retries()
        self._changed.set()

    async def join(self, deadline: Deadline) -> bool:
        """Waits until all records are acknowledged; False if the deadline passes first."""
        return await self._drained(lambda: self.unacknowledged, deadline)

    async def commit(self) -> None:
        """Commits all offsets that are safe. A failure is logged; the next commit covers it.

        Raises:
            FencedError: another worker has a partition that this one still processes.
        """
        await self.delivery.commit()
        self._changed.set()
        self.backlog.changed.set()

    async def commit_when_due(self) -> None:
        """Waits until a commit is due, and commits."""
        await self.delivery.wait_until_due()
        await self.commit()

    async def leave(self) -> None:
        """Commits for the last time and releases all partitions. Raises FencedError as `commit`."""
        await self.delivery.close(self.delivery.partitions)

    async def stop(self) -> None:
        """Leaves the group. A revocation in progress ends, because no record is answered any more."""
        self._stopped = True
        self._changed.set()
        self.delivery.openings.stop()
        await self.backlog.stop()
        await self.consumer.stop()

    async def open(
        self, partitions: frozenset[Partition], report: Callable[[frozenset[Partition]], None] = lambda _: None
    ) -> frozenset[Partition]:
        """Opens partitions by a command of the supervisor; returns those that are read now.

        The consumer must be an `AssignedConsumer`. `report` is called with those that are read while others are not.
        """
        await self.consumer.add(partitions)
        await self._in_callback(self._open(partitions, report))
        return partitions & self.delivery.partitions

    async def _open(self, partitions: frozenset[Partition], report: Callable[[frozenset[Partition]], None]) -> None:
        left = await self.delivery.begin_opening(partitions)
        while left:
            report(partitions & self.delivery.partitions)
            left = await self.delivery.openings.retry(left)

    async def release(self, partitions: frozenset[Partition]) -> int:
        """Releases partitions by a command of the supervisor; returns the records without an answer."""
        try:
            left = await self._give_up(partitions)
            await self.consumer.remove(partitions)
        finally:
            # Not earlier: an opening that waited for the consumer must not begin now.
            self.delivery.end_close(partitions)
        return left

    def suspects(self) -> Mapping[Partition, int]:
        """Partitions with deaths at their position, with the number of deaths."""
        return self.delivery.suspects

    async def on_partitions_assigned(self, assigned: Iterable[Partition]) -> None:
        """Opens assigned partitions; those that cannot be opened now are opened later."""
        self.positions.hold(assigned)
        await self._in_callback(self._begin_opening(assigned))

    async def _begin_opening(self, assigned: Iterable[Partition]) -> None:
        if left := await self.delivery.begin_opening(assigned):
            self.delivery.openings.run(self._in_callback(self.delivery.openings.finish(left)))

    async def on_partitions_revoked(self, revoked: Iterable[Partition]) -> None:
        """Drains partitions that are taken away, for at most `revoke_s`, and commits for them."""
        going = list(revoked)
        try:
            await self._give_up(going)
        finally:
            self.delivery.end_close(going)

    async def _give_up(self, going: Collection[Partition]) -> int:
        """Returns the number of records that are left."""
        deadline = Deadline.after(self.clock(), self.revoke_s * 1e3)
        self.delivery.begin_close(going)
        async with self._admission:
            pass  # Records that are admitted now are counted from here on.
        await self._drained(lambda: self.offsets.unacknowledged_of(going), deadline)
        if left := self.offsets.unacknowledged_of(going):
            self.log.warning("partitions revoked before they were drained", unacknowledged=left)
        await self._in_callback(self.delivery.close(going))
        return left

    async def _in_callback(self, work: Coroutine[Any, Any, None]) -> None:
        """Keeps an error for `chunks`, because aiokafka ignores the errors of its callbacks."""
        try:
            await work
        except StreamerError as error:
            self._failure = error
            self._changed.set()

    async def _admit(self, records: Sequence[ConsumerRecord]) -> list[Record]:
        async with self._admission:
            if self.delivery.is_isolating:
                await self.delivery.end_isolation(records)
            admitted = await self.delivery.admit(records)
            for record, _ in admitted:
                self.lag.received(record.partition, self.receipt.written_s(record))
            return [self.receipt.receive(one.record, one.is_suspect) for one in admitted]

    async def _drained(self, left: Callable[[], int], deadline: Deadline) -> bool:
        while left():
            remaining = deadline.remaining(self.clock())
            if remaining <= 0 or self._stopped:
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._change()
        return True

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
