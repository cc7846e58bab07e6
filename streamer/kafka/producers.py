"""The message and the producer that the sink and the transactions share."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from streamer.errors import MessageTooLargeError
from streamer.types import Header

# Without a broker aiokafka waits without a limit for unsent messages, which the scorer no longer needs.
_STOP_S = 2.0


class Message(msgspec.Struct, frozen=True):
    """A message to publish."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[Header]

    @property
    def bytes(self) -> int:
        """Size of key, value and headers."""
        in_headers = sum(len(name) + len(value or b"") for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + in_headers

    @property
    def too_large(self) -> MessageTooLargeError:
        """The error for a message that its topic does not accept."""
        return MessageTooLargeError(self.bytes, self.topic)


@dataclass(frozen=True, slots=True)
class Producer:
    """A started client and the most bytes that it puts into one batch."""

    client: AIOKafkaProducer
    batch_bytes: int

    @classmethod
    async def start(cls, new_client: Callable[[int], AIOKafkaProducer], batch_bytes: int) -> "Producer":
        """Makes a client for this batch size and connects it.

        Raises:
            KafkaError: the brokers cannot be reached or reject the connection.
        """
        producer = cls(new_client(batch_bytes), batch_bytes)
        try:
            await producer.client.start()
        except BaseException:
            await producer.stop()
            raise
        return producer

    async def send(self, message: Message) -> Awaitable[object]:
        """Adds a message to a batch; the result ends when the brokers acknowledge or reject it.

        Raises:
            MessageTooLargeError: it is larger than `sink.max_request_bytes`.
        """
        # aiokafka sends no record that has neither key nor value.
        value = b"" if message.key is None and message.value is None else message.value
        try:
            sent: Awaitable[object] = await self.client.send(message.topic, value, message.key, headers=message.headers)
        except MessageSizeTooLargeError as error:
            raise message.too_large from error
        return sent

    async def stop(self) -> None:
        """Disconnects within 2 s, with or without its last messages."""
        with suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await self.client.stop()
