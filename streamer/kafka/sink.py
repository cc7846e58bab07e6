"""Publishes answers and dead letters, and retries until the brokers acknowledge them."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    UnknownProducerId,
)
from structlog.typing import FilteringBoundLogger

from streamer.errors import ConfigError
from streamer.kafka.dead_letters import publish_dead_letter
from streamer.kafka.produce_batch_size import ProduceBatchSize
from streamer.kafka.producers import Message, Producer
from streamer.metrics import Metrics
from streamer.settings.sections import SinkSettings
from streamer.tasks import Spawn
from streamer.types import DeadLetter, Header, Origin

# A batch that the brokers reject for good (no right to write, too large, a wrong timestamp) leaves a gap in the
# producer's sequence numbers. aiokafka does not reset them, so the brokers reject every later batch as out of order.
_OUT_OF_SEQUENCE = (OutOfOrderSequenceNumber, UnknownProducerId, ProducerFenced)


@dataclass(slots=True, eq=False)
class Sink:
    """An idempotent producer. Its methods return when the brokers have acknowledged the message.

    1. A failure is counted, logged and retried after `retry_ms`, without a limit; only cancellation ends the retries.
       The record stays unacknowledged, so reading pauses when too many are.
    2. A producer whose later batches the brokers would reject is replaced; its pending batches go on.
    """

    producer_of: Callable[[int], AIOKafkaProducer]
    settings: SinkSettings
    metrics: Metrics
    log: FilteringBoundLogger
    spawn: Spawn
    _batch_size: ProduceBatchSize = field(default_factory=ProduceBatchSize)
    _producer: Producer | None = None
    _replacing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def start(self) -> None:
        """Connects.

        Raises:
            KafkaError: the brokers cannot be reached or reject the connection.
        """
        self._producer = await Producer.start(self.producer_of, self._batch_size.bytes)

    async def publish(self, origin: Origin, key: bytes | None, value: bytes, headers: Sequence[Header]) -> None:
        """Publishes the answer to one record, with the record's headers.

        Raises:
            MessageTooLargeError: the topic does not accept it.
        """
        await self.send(self.settings.topic, key, value, headers)

    async def dead_letter(self, letter: DeadLetter) -> None:
        """Publishes a record unchanged, with its reason and origin in additional headers."""
        topic = self.settings.dead_letter_topic
        await publish_dead_letter(letter, partial(self.send, topic), self.log)
        self.metrics.dead_lettered(letter.stage)

    async def stop(self) -> None:
        """Flushes and disconnects."""
        if self._producer is not None:
            await self._producer.client.stop()

    async def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Iterable[Header] = ()) -> None:
        """Publishes a message on any topic.

        Raises:
            MessageTooLargeError: the topic does not accept it.
        """
        message = Message(topic, key, value, list(headers))
        while True:
            producer = self._producer
            assert producer is not None, "started"
            try:
                await (await producer.send(message))
            except MessageSizeTooLargeError as error:
                is_too_large = self._batch_size.rejected(message.bytes, producer.batch_bytes)
                await self._replace(producer, error)
                if is_too_large:
                    raise message.too_large from error
            except KafkaError as error:
                self.metrics.send_failures.inc()
                self.log.warning("not accepted by the brokers, retried", topic=message.topic, error=repr(error))
                await asyncio.sleep(self.settings.retry_ms / 1e3)
                # A plain KafkaError: aiokafka's background task has died; every later send would fail.
                if isinstance(error, _OUT_OF_SEQUENCE) or type(error) is KafkaError:
                    await self._replace(producer, error)
            else:
                self._batch_size.accepted()
                if self._batch_size.bytes > producer.batch_bytes and not self._replacing.locked():
                    self.spawn(self._replace(producer, "larger batches"), "larger batches")
                return

    async def _replace(self, broken: Producer, reason: KafkaError | str) -> None:
        """Starts a new producer, unless another call has; the next failure retries it."""
        async with self._replacing:
            if self._producer is not broken:
                return
            try:
                await self.start()
            except (KafkaError, ConfigError, TimeoutError) as error:
                self.log.warning("the producer cannot be replaced, retried", error=repr(error))
                return
        self.log.warning("producer replaced", error=repr(reason), batch_bytes=self._producer.batch_bytes)
        self.spawn(self._stop_replaced(broken), "replaced producer")

    async def _stop_replaced(self, producer: Producer) -> None:
        """Flushes a replaced producer.

        An error concerns no record: each `send` reports the end of its own message.
        """
        try:
            await producer.client.stop()
        except Exception as error:  # noqa: BLE001  an error of any class would end the owner's other tasks
            self.log.warning("a replaced producer ended with an error", error=repr(error))
