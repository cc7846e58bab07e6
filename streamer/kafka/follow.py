"""Follows a topic, and looks up single records of another one, for commands."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from streamer.errors import ConfigError, StreamerError, UnreachableError
from streamer.kafka import clients, topics
from streamer.kafka.one_record import record_at
from streamer.kafka.record_batches import UnreadableRecord
from streamer.settings import Settings
from streamer.types import Origin

Records = AsyncIterator[ConsumerRecord]
"""Records as they arrive."""
_POLL_MS = 200
_LOOK_UP_S = 2.0


@asynccontextmanager
async def followed(settings: Settings, topic: str, *, from_beginning: bool = False) -> AsyncIterator[Records]:
    """The committed records of a topic that are produced from now on, without a group.

    The iterator never ends; it passes over records that cannot be read. With `from_beginning` it begins with the
    records that the topic holds now.

    Raises:
        UnreachableError: no broker answers.
        ConfigError: a broker rejects the connection or the read, or the topic does not exist.
    """
    await topics.check_topics(settings, [topic])
    async with clients.started(topics.reader_of(settings, topic), settings) as reader:
        if not from_beginning and not await reader.seek_to_end():
            raise UnreachableError(f"{topic}: the brokers have not told its end")
        yield _records(reader, topic)


async def _records(reader: Any, topic: str) -> Records:
    while True:
        try:
            found = await reader.getmany(timeout_ms=_POLL_MS)
        except KafkaError as error:
            raise ConfigError(f"{topic}: {error!r}") from error
        for record in (record for records in found.values() for record in records):
            if not isinstance(record, UnreadableRecord):
                yield record


class Lookup:
    """Reads single records by their positions."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    async def record(self, origin: Origin) -> ConsumerRecord | None:
        """The record at a position; None if it is gone or does not arrive within 2 s."""
        try:
            async with asyncio.timeout(_LOOK_UP_S):
                found = await record_at(self._consumer, (origin.topic, origin.partition), origin.offset)
        except (StreamerError, KafkaError, TimeoutError):
            return None
        return None if isinstance(found, UnreadableRecord) else found


@asynccontextmanager
async def lookup(settings: Settings) -> AsyncIterator[Lookup]:
    """Connects for single reads, without a group. Raises as `followed`."""
    async with clients.started(clients.backlog_consumer(settings), settings) as consumer:
        yield Lookup(consumer)
