"""Publishes answers and dead letters, and does not give up while the worker lives."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    UnknownProducerId,
)
from structlog.typing import FilteringBoundLogger

from streamer.errors import ConfigError, MessageTooLargeError
from streamer.kafka.dead_letters import bury
from streamer.kafka.produce_batch_size import ProduceBatchSize
from streamer.metrics import Metrics
from streamer.settings.sections import SinkSettings
from streamer.types import DeadLetter, Header, Origin

# A batch that the brokers refuse for good (no right to write, too large, a bad time) leaves a gap in the numbers by
# which they tell repeated ones: the client takes none of them back, and every later batch is out of order for them.
_OUT_OF_STEP = (OutOfOrderSequenceNumber, UnknownProducerId, ProducerFenced)


@dataclass(frozen=True, slots=True)
class _Client:
    """A producer and the bytes that a batch of its may have."""

    producer: AIOKafkaProducer
    batch_bytes: int


class Sink:
    """An idempotent producer. `publish` and `dead_letter` return when the brokers have the message for good.

    A refusal is counted, logged and tried again after `retry_ms`, for ever: the record stays in flight, so that reading
    stops when too many do. Cancellation is the only way out. A producer that the brokers do not follow any more is
    replaced by a new one; what it still has on its way comes to its end.
    """

    def __init__(
        self,
        producer_of: Callable[[int], AIOKafkaProducer],
        settings: SinkSettings,
        metrics: Metrics,
        log: FilteringBoundLogger,
    ) -> None:
        self._producer_of = producer_of
        self._settings = settings
        self._metrics = metrics
        self._log = log
        self._limit = ProduceBatchSize()
        self._client: _Client | None = None
        self._replacing = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connects.

        Raises:
            KafkaError: the brokers cannot be reached or refuse.
        """
        self._client = await self._new_client()

    async def publish(self, origin: Origin, key: bytes | None, value: bytes, headers: Sequence[Header]) -> None:
        """Sends one answer, wherever its record came from; the request's headers are carried over.

        Raises:
            MessageTooLargeError: the topic does not take it.
        """
        await self._send(self._settings.topic, key, value, list(headers))

    async def shadow(self, key: bytes | None, value: bytes, headers: Sequence[Header]) -> None:
        """Sends the scores of a version in the shadow.

        Raises:
            MessageTooLargeError: the topic does not take them.
        """
        await self._send(self._settings.shadow_topic, key, value, list(headers))

    async def feature_log(self, key: bytes | None, value: bytes) -> None:
        """Sends a line of the feature log.

        Raises:
            MessageTooLargeError: the topic does not take it.
        """
        await self._send(self._settings.feature_log_topic, key, value, [])

    async def dead_letter(self, letter: DeadLetter) -> None:
        """Sends a record as it was, with what is known about it in headers of its own."""
        topic = self._settings.dead_letter_topic
        await bury(letter, lambda *message: self._send(topic, *message), self._log)
        self._metrics.dead_lettered(letter.stage)

    async def stop(self) -> None:
        """Flushes and disconnects."""
        for leaving in self._leaving:
            leaving.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        if self._client is not None:
            await self._client.producer.stop()

    async def _send(self, topic: str, key: bytes | None, value: bytes | None, headers: list[Header]) -> None:
        if key is None and value is None:
            value = b""  # the client sends no record without both
        while True:
            client = self._client
            assert client is not None, "started"
            try:
                if await self._send_by(client, topic, key, value, headers):
                    return
            except KafkaError as error:
                self._metrics.send_failures.inc()
                self._log.warning("not taken by the broker, tried again", topic=topic, error=repr(error))
                await asyncio.sleep(self._settings.retry_ms / 1e3)
                # A plain KafkaError is the end of the client's own sending task.
                if isinstance(error, _OUT_OF_STEP) or type(error) is KafkaError:
                    await self._replace(client, error)

    async def _send_by(
        self, client: _Client, topic: str, key: bytes | None, value: bytes | None, headers: list[Header]
    ) -> bool:
        """Whether the brokers have taken it; False where they may take it in a smaller batch, by the next producer."""
        size = len(key or b"") + len(value or b"")
        try:
            taken = await client.producer.send(topic, value=value, key=key, headers=headers)
        except MessageSizeTooLargeError as error:
            raise MessageTooLargeError(size, topic) from error
        try:
            await taken
        except MessageSizeTooLargeError as error:
            is_alone = self._limit.refused(size, client.batch_bytes)
            await self._replace(client, error)
            if is_alone:
                raise MessageTooLargeError(size, topic) from error
            return False
        return True

    async def _replace(self, broken: _Client, why: KafkaError) -> None:
        """A new producer takes over, unless one has. If it cannot connect, the next failure tries again."""
        async with self._replacing:
            if self._client is not broken:
                return
            try:
                self._client = await self._new_client()
            except (KafkaError, ConfigError, TimeoutError) as error:
                self._log.warning("no new producer yet", error=repr(error))
                return
        self._log.warning("producer replaced", error=repr(why), batch_bytes=self._client.batch_bytes)
        leaving = asyncio.create_task(broken.producer.stop(), name="old producer")
        self._leaving.add(leaving)
        leaving.add_done_callback(self._left)

    def _left(self, leaving: asyncio.Task[None]) -> None:
        self._leaving.discard(leaving)
        if not leaving.cancelled() and (error := leaving.exception()) is not None:
            self._log.warning("an old producer ended with an error", error=repr(error))

    async def _new_client(self) -> _Client:
        client = _Client(self._producer_of(self._limit.bytes), self._limit.bytes)
        try:
            await client.producer.start()
        except BaseException:
            await client.producer.stop()
            raise
        return client
