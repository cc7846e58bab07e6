"""Publishes answers and dead letters, and does not give up while the worker lives."""

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from structlog.typing import FilteringBoundLogger

from streamer.dead_letters import headers_of, without_value
from streamer.metrics import Metrics
from streamer.settings import SinkSettings
from streamer.types import DeadLetter, Header, Origin


class Sink:
    """An idempotent producer. `publish` and `dead_letter` return when the brokers have the message for good.

    A refusal is counted, logged and tried again after `retry_ms`, for ever: the record stays in flight, so that reading
    stops when too many do. Cancellation is the only way out.
    """

    def __init__(
        self, producer: AIOKafkaProducer, settings: SinkSettings, metrics: Metrics, log: FilteringBoundLogger
    ) -> None:
        self._producer = producer
        self._settings = settings
        self._metrics = metrics
        self._log = log

    async def start(self) -> None:
        """Connects.

        Raises:
            KafkaError: the brokers cannot be reached or refuse.
        """
        await self._producer.start()

    async def publish(self, origin: Origin, key: bytes | None, value: bytes, headers: Sequence[Header]) -> None:
        """Sends one answer, wherever its record came from; the request's headers are carried over."""
        await self._send(self._settings.topic, key, value, list(headers))

    async def shadow(self, key: bytes | None, value: bytes, headers: Sequence[Header]) -> None:
        """Sends the scores of a version in the shadow."""
        await self._send(self._settings.shadow_topic, key, value, list(headers))

    async def dead_letter(self, letter: DeadLetter) -> None:
        """Sends a record as it was, with what is known about it in headers of its own."""
        headers = headers_of(letter)
        topic = self._settings.dead_letter_topic
        try:
            await self._send(topic, letter.key, letter.value, headers)
        except MessageSizeTooLargeError:
            size = len(letter.value or b"")
            self._log.error(
                "a dead letter is too large for its topic, its value is left out", origin=str(letter.origin), size=size
            )
            await self._send(topic, letter.key, None, without_value(headers, size))
        self._metrics.dead_lettered(letter.stage)

    async def stop(self) -> None:
        """Flushes and disconnects."""
        await self._producer.stop()

    async def _send(self, topic: str, key: bytes | None, value: bytes | None, headers: list[Header]) -> None:
        if key is None and value is None:
            value = b""  # the client sends no record without both
        while True:
            try:
                await self._producer.send_and_wait(topic, value=value, key=key, headers=headers)
            except MessageSizeTooLargeError:
                raise
            except KafkaError as error:
                self._metrics.send_failures.inc()
                self._log.warning("not taken by the broker, tried again", topic=topic, error=repr(error))
                await asyncio.sleep(self._settings.retry_ms / 1e3)
            else:
                return
