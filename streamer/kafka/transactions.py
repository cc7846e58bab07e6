"""Publishes answers and dead letters in transactions, together with the offsets of the records that they answer."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, ProducerFenced
from structlog.typing import FilteringBoundLogger

from streamer.errors import ConfigError, FencedError, MessageTooLargeError
from streamer.kafka.dead_letters import bury
from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.produce_batch_size import ProduceBatchSize
from streamer.metrics import Metrics
from streamer.settings.sections import DeliverySettings, SinkSettings
from streamer.tasks import set_within
from streamer.types import DeadLetter, Header, Origin, Partition

# With the brokers away a client would wait for ever for what it has not sent, which nobody needs any more.
_STOP_S = 2.0


@dataclass(frozen=True, slots=True)
class _Message:
    """What came of one record; `taken` is settled when a transaction that holds it has been committed."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[Header]
    taken: asyncio.Future[None]

    @property
    def bytes(self) -> int:
        return len(self.key or b"") + len(self.value or b"")


@dataclass(slots=True)
class _Lane:
    """One input partition: its producer, None while it has to be replaced, and what is ready to leave."""

    producer: AIOKafkaProducer | None = None
    # Of that producer.
    batch_bytes: int = 0
    ready: dict[int, _Message] = field(default_factory=dict)
    # Where a transaction whose end is not known would have brought the committed offset.
    in_doubt: int | None = None


class Transactions:
    """One transactional producer for each assigned partition, whose `transactional.id` names group, topic, partition.

    Promise: a reader with `read_committed` sees what came of each record once. Invariants: (1) a transaction holds the
    first records of its partition that are not committed, without a gap, and the offset behind them; (2) a transaction
    whose end is not known is settled before the next one: a new producer of the same id ends it, and the committed
    offset tells how; (3) who finds that another producer of its id has been there commits nothing any more.
    """

    def __init__(
        self,
        producer_of: Callable[[Partition, int], AIOKafkaProducer],
        committed: Callable[[Partition], Awaitable[int | None]],
        offsets: OffsetTracker,
        *,
        group_id: str,
        sink: SinkSettings,
        settings: DeliverySettings,
        metrics: Metrics,
        log: FilteringBoundLogger,
    ) -> None:
        self._producer_of = producer_of
        self._committed = committed
        self._offsets = offsets
        self._group_id = group_id
        self._sink = sink
        self._settings = settings
        self._metrics = metrics
        self._log = log
        self._limit = ProduceBatchSize()
        self._lanes: dict[Partition, _Lane] = {}
        self._enough = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self.at_once = False
        """Whether a single record is enough for a transaction."""

    def __repr__(self) -> str:
        return f"<Transactions {sum(len(lane.ready) for lane in self._lanes.values())} ready>"

    async def publish(self, origin: Origin, key: bytes | None, value: bytes, headers: Sequence[Header]) -> None:
        """Returns when a transaction with this answer has been committed, or the record is not ours any more.

        Raises:
            MessageTooLargeError: it is too large for its topic.
        """
        await self._hand_over(origin, self._sink.topic, key, value, list(headers))

    async def dead_letter(self, letter: DeadLetter) -> None:
        """Returns when a transaction with this dead letter has been committed, or the record is not ours any more."""
        topic = self._sink.dead_letter_topic
        await bury(letter, lambda *message: self._hand_over(letter.origin, topic, *message), self._log)
        self._metrics.dead_lettered(letter.stage)

    async def open(self, partitions: Iterable[Partition]) -> None:
        """These partitions are ours: whoever had them is fenced, and their open transactions are ended.

        Raises:
            KafkaError, TimeoutError: the brokers cannot be reached, or refuse.
        """
        async with self._one_at_a_time:
            new = {partition: self._lanes.setdefault(partition, _Lane()) for partition in partitions}
            starting = (self._start(p, lane) for p, lane in new.items() if lane.producer is None)
            # Each to its end: one that went on alone would be in the way of the next attempt's, which has its id.
            _raise_first(await asyncio.gather(*starting, return_exceptions=True))

    async def wait(self) -> None:
        """Waits until a transaction is due: after the interval, or when enough is ready."""
        await set_within(self._enough, self._settings.transaction_interval_ms / 1e3)

    async def commit(self, mark: Callable[[Partition], str]) -> None:
        """One transaction for each partition that has something ready; `mark` is the metadata of its offset.

        What fails is counted, logged, and part of the next one.

        Raises:
            FencedError: another producer of a partition's id has taken over.
        """
        async with self._one_at_a_time:
            self._enough.clear()
            lanes = list(self._lanes.items())
            # Each to its end before the first error is raised: a transaction is not to be broken off by another one.
            _raise_first(await asyncio.gather(*(self._run(p, lane, mark) for p, lane in lanes), return_exceptions=True))

    async def close(self, partitions: Iterable[Partition]) -> None:
        """These partitions are given up; what of them is not committed will be answered by somebody else."""
        async with self._one_at_a_time:
            lanes = [lane for p in partitions if (lane := self._lanes.pop(p, None)) is not None]
            for lane in lanes:
                for message in lane.ready.values():
                    message.taken.cancel()
            await asyncio.gather(*(self._stop(lane) for lane in lanes))

    async def stop(self) -> None:
        """Gives up all partitions."""
        await self.close(list(self._lanes))

    async def _hand_over(
        self, origin: Origin, topic: str, key: bytes | None, value: bytes | None, headers: list[Header]
    ) -> None:
        partition = (origin.topic, origin.partition)
        lane = self._lanes.get(partition)
        if lane is None or not self._offsets.is_in_flight(partition, origin.offset):
            return
        message = lane.ready.get(origin.offset)
        if message is None:
            # A record that comes back with its partition may be answered twice: the first answer counts.
            taken = asyncio.get_running_loop().create_future()
            if key is None and value is None:
                value = b""  # the client sends no record without both
            message = lane.ready[origin.offset] = _Message(topic, key, value, headers, taken)
            if (
                self.at_once
                or sum(len(each.ready) for each in self._lanes.values()) >= self._settings.max_transaction_records
            ):
                self._enough.set()
        await asyncio.shield(message.taken)

    async def _run(self, partition: Partition, lane: _Lane, mark: Callable[[Partition], str]) -> None:
        try:
            if lane.producer is None and lane.ready:
                await self._replace(partition, lane)
            offsets = self._offsets.prefix(partition, lane.ready)[: self._settings.max_transaction_records]
            if not offsets or lane.producer is None:
                return
            lane.in_doubt = offsets[-1] + 1
            async with asyncio.timeout(self._settings.transaction_timeout_ms / 1e3):
                await self._transact(lane, partition, [lane.ready[o] for o in offsets], lane.in_doubt, mark)
            self._succeeded(partition, lane)
        except ProducerFenced as error:
            raise FencedError(*partition) from error
        except _RefusedError as refused:
            await self._stop(lane)
            offset = next(o for o, message in lane.ready.items() if message is refused.message)
            del lane.ready[offset]
            if not refused.message.taken.done():
                refused.message.taken.set_exception(MessageTooLargeError(refused.message.bytes, refused.message.topic))
        except _BatchesTooLargeError:
            await self._stop(lane)
            self._log.warning("batches are too large for the topic, smaller ones follow", bytes=self._limit.bytes)
        except (KafkaError, ConfigError, TimeoutError) as error:
            self._metrics.transactions.labels("failed").inc()
            self._log.warning(
                "transaction failed, its answers go with the next one",
                partition="{}/{}".format(*partition),
                error=repr(error),
            )
            await self._stop(lane)
            await asyncio.sleep(self._sink.retry_ms / 1e3)
        except BaseException:
            # Broken off in the middle: the producer is of no more use.
            await self._stop(lane)
            raise

    async def _transact(
        self,
        lane: _Lane,
        partition: Partition,
        messages: Sequence[_Message],
        offset: int,
        mark: Callable[[Partition], str],
    ) -> None:
        producer = lane.producer
        assert producer is not None
        await producer.begin_transaction()
        sent: list[asyncio.Future[object]] = []
        for message in messages:
            try:
                sent.append(
                    await producer.send(message.topic, value=message.value, key=message.key, headers=message.headers)
                )
            except MessageSizeTooLargeError as error:
                raise _RefusedError(message) from error
        # A refused message must be known before the end: the client would commit the transaction without it.
        results = await asyncio.gather(*sent, return_exceptions=True)
        too_large = [m for m, r in zip(messages, results, strict=True) if isinstance(r, MessageSizeTooLargeError)]
        if too_large:
            # The brokers refuse batches, not messages.
            largest = max(too_large, key=lambda message: message.bytes)
            if self._limit.refused(largest.bytes, lane.batch_bytes):
                raise _RefusedError(largest)
            raise _BatchesTooLargeError
        for result in results:
            if isinstance(result, BaseException):
                raise result
        await producer.send_offsets_to_transaction(
            {TopicPartition(*partition): (offset, mark(partition))}, self._group_id
        )
        await producer.commit_transaction()

    def _succeeded(self, partition: Partition, lane: _Lane) -> None:
        assert lane.in_doubt is not None
        self._offsets.committed({partition: lane.in_doubt})
        for offset in [o for o in lane.ready if o < lane.in_doubt]:
            message = lane.ready.pop(offset)
            self._offsets.done(partition, offset)
            if not message.taken.done():
                message.taken.set_result(None)
        lane.in_doubt = None
        self._metrics.transactions.labels("committed").inc()

    async def _replace(self, partition: Partition, lane: _Lane) -> None:
        """A new producer, which ends what the old one left open; then what became of that is known."""
        await self._start(partition, lane)
        committed = await self._committed(partition)
        if lane.in_doubt is not None and committed == lane.in_doubt:
            self._succeeded(partition, lane)
        elif committed != self._offsets.last_committed(partition):
            await self._stop(lane)
            raise FencedError(*partition)
        lane.in_doubt = None

    async def _start(self, partition: Partition, lane: _Lane) -> None:
        batch_bytes = self._limit.bytes
        producer = self._producer_of(partition, batch_bytes)
        try:
            async with asyncio.timeout(self._settings.transaction_timeout_ms / 1e3):
                await producer.start()
        except BaseException:
            await _stop(producer)
            raise
        lane.producer, lane.batch_bytes = producer, batch_bytes

    async def _stop(self, lane: _Lane) -> None:
        producer, lane.producer = lane.producer, None
        if producer is not None:
            await _stop(producer)


class _RefusedError(Exception):
    """A message that no transaction can hold."""

    def __init__(self, message: _Message) -> None:
        super().__init__(message.topic)
        self.message = message


class _BatchesTooLargeError(Exception):
    """The brokers did not take several messages together that they may take one by one."""


def _raise_first(ends: Iterable[object]) -> None:
    for end in ends:
        if isinstance(end, BaseException):
            raise end


async def _stop(producer: AIOKafkaProducer) -> None:
    with suppress(KafkaError, TimeoutError):
        async with asyncio.timeout(_STOP_S):
            await producer.stop()
