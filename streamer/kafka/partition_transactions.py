"""The transactions of one input partition, and the messages that wait for the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, ProducerFenced
from structlog.typing import FilteringBoundLogger

from streamer.errors import ConfigError, FencedError, MessageTooLargeError
from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.produce_batch_size import ProduceBatchSize
from streamer.kafka.producers import Message, Producer
from streamer.metrics import Metrics
from streamer.settings.sections import DeliverySettings, SinkSettings
from streamer.types import Partition


@dataclass(frozen=True, slots=True)
class TransactionContext:
    """The clients, settings and counters that the transactions of all partitions share.

    Attributes:
        producer_of: makes the producer of an input partition, for a batch size in bytes.
        committed_offset: returns the group's committed offset of a partition, None before the first commit.
    """

    producer_of: Callable[[Partition, int], AIOKafkaProducer]
    committed_offset: Callable[[Partition], Awaitable[int | None]]
    offsets: OffsetTracker
    group_id: str
    sink: SinkSettings
    settings: DeliverySettings
    metrics: Metrics
    log: FilteringBoundLogger
    batch_size: ProduceBatchSize = field(default_factory=ProduceBatchSize)


@dataclass(slots=True)
class PartitionTransactions:
    """One partition's transactional producer, and the messages for its next transaction.

    1. A transaction holds the partition's first uncommitted records without a gap, and the offset after them.
    2. A failed transaction is never repaired: its producer is replaced, and the messages go into the next one.
    3. A transaction with an unknown outcome is resolved before the next one: starting a new producer of the same id
       ends it, and then the committed offset shows its outcome.
    """

    partition: Partition
    context: TransactionContext
    ready: dict[int, tuple[Message, asyncio.Future[None]]] = field(default_factory=dict)
    _producer: Producer | None = None
    # The offset of the last transaction, until its outcome is known.
    _in_doubt: int | None = None

    def add(self, offset: int, message: Message) -> asyncio.Future[None]:
        """Adds a record's message; the result ends when a transaction that holds it is committed.

        A record whose partition came back may be answered twice; only the first answer counts.
        """
        _, acknowledged = self.ready.setdefault(offset, (message, asyncio.get_running_loop().create_future()))
        return acknowledged

    @property
    def has_next(self) -> bool:
        """Whether a transaction could hold the message of a record."""
        return bool(self.context.offsets.prefix(self.partition, self.ready))

    async def start(self) -> None:
        """Starts the producer, unless it runs. Fences the last worker and ends its transaction.

        Raises:
            KafkaError, TimeoutError: the brokers cannot be reached or reject the producer.
        """
        if self._producer is None:
            new_client = partial(self.context.producer_of, self.partition)
            async with asyncio.timeout(self.context.settings.transaction_timeout_ms / 1e3):
                self._producer = await Producer.start(new_client, self.context.batch_size.bytes)

    async def commit(self, mark: Callable[[Partition, int], object]) -> None:
        """Commits one transaction if messages are ready; `mark` gives the metadata of its offset.

        A failure is counted and logged.

        Raises:
            FencedError: another producer with this partition's id has started.
        """
        context = self.context
        try:
            if self.ready or self._passed() is not None:
                await self._resolve()
            offsets = context.offsets.prefix(self.partition, self.ready)[: context.settings.max_transaction_records]
            end = offsets[-1] + 1 if offsets else self._passed()
            if end is not None and self._producer is not None:
                self._in_doubt = end
                metadata = str(mark(self.partition, end))
                async with asyncio.timeout(context.settings.transaction_timeout_ms / 1e3):
                    is_committed = await self._transact(self._producer, offsets, end, metadata)
                if is_committed:
                    self._succeeded(end)
                    context.batch_size.accepted(len(offsets))
                if not is_committed or self._producer.batch_bytes < context.batch_size.bytes:
                    await self._stop_producer()
        except ProducerFenced as error:
            raise FencedError(*self.partition) from error
        except (KafkaError, ConfigError, TimeoutError) as error:
            context.metrics.transactions.labels("failed").inc()
            context.log.warning(
                "transaction failed, its answers go into the next one",
                partition="{}/{}".format(*self.partition),
                error=repr(error),
            )
            await self._stop_producer()
            await asyncio.sleep(context.sink.retry_ms / 1e3)
        except BaseException:
            # The transaction was cancelled, or its partition is fenced: the producer cannot be used again.
            await self._stop_producer()
            raise

    async def close(self) -> None:
        """Drops the messages that are not committed, and stops the producer."""
        for _, acknowledged in self.ready.values():
            acknowledged.cancel()
        await self._stop_producer()

    def _passed(self) -> int | None:
        """An offset to commit without a message, as behind the end of another transaction."""
        if self.ready:
            return None
        offsets = self.context.offsets
        position, last = offsets.acknowledged_up_to(self.partition), offsets.last_committed(self.partition)
        return None if position is None or (last is not None and position <= last) else position

    async def _transact(self, producer: Producer, offsets: Sequence[int], end: int, metadata: str) -> bool:
        """Runs a transaction; False if a message or a batch was too large for its topic."""
        await producer.client.begin_transaction()
        sent: list[Awaitable[object]] = []
        for offset in offsets:
            try:
                sent.append(await producer.send(self.ready[offset][0]))
            except MessageTooLargeError:
                self._reject(offset)
                return False
        # All results must be known before the commit: aiokafka would commit the transaction without a rejected message.
        results = await asyncio.gather(*sent, return_exceptions=True)
        too_large = [o for o, r in zip(offsets, results, strict=True) if isinstance(r, MessageSizeTooLargeError)]
        if too_large:
            # Brokers reject batches, not messages.
            largest = max(too_large, key=lambda offset: self.ready[offset][0].bytes)
            if self.context.batch_size.rejected(self.ready[largest][0].bytes, producer.batch_bytes):
                self._reject(largest)
            else:
                self.context.log.warning("batches too large for the topic, halved", bytes=self.context.batch_size.bytes)
            return False
        raise_first(results)
        await producer.client.send_offsets_to_transaction(
            {TopicPartition(*self.partition): (end, metadata)}, self.context.group_id
        )
        await producer.client.commit_transaction()
        return True

    def _reject(self, offset: int) -> None:
        """Ends a message's wait with MessageTooLargeError."""
        message, acknowledged = self.ready.pop(offset)
        acknowledged.set_exception(message.too_large)

    def _succeeded(self, end: int) -> None:
        self.context.offsets.committed({self.partition: end})
        for offset in [o for o in self.ready if o < end]:
            _, acknowledged = self.ready.pop(offset)
            self.context.offsets.acknowledged(self.partition, offset)
            acknowledged.set_result(None)
        self._in_doubt = None
        self.context.metrics.transactions.labels("committed").inc()

    async def _resolve(self) -> None:
        """Starts a producer if there is none, and finds out the outcome of the last transaction."""
        if self._producer is not None:
            return
        last = self.context.offsets.last_committed(self.partition)
        # Before the start: a worker that was paused must not fence its successor, which has committed. Without a
        # commit there is none: the brokers have deleted it with its topic.
        if await self.context.committed_offset(self.partition) not in (last, self._in_doubt, None):
            raise FencedError(*self.partition)
        await self.start()
        committed = await self.context.committed_offset(self.partition)
        if self._in_doubt is not None and committed == self._in_doubt:
            self._succeeded(self._in_doubt)
        elif committed not in (last, None):
            raise FencedError(*self.partition)
        self._in_doubt = None

    async def _stop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()


def raise_first(results: Iterable[object]) -> None:
    """Raises the first exception among the results of `asyncio.gather`."""
    for result in results:
        if isinstance(result, BaseException):
            raise result
