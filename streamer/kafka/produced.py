"""Produces records for commands, and names the first one that is not accepted."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka.errors import KafkaError

from streamer.errors import StreamerError
from streamer.kafka import clients, topics
from streamer.settings import Settings
from streamer.types import Header, Origin


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to produce; `where` names it for a person."""

    where: str
    key: bytes | None
    value: bytes
    headers: Sequence[Header]


@dataclass(frozen=True, slots=True)
class Produced:
    """The position of a record, and its timestamp in milliseconds since the epoch."""

    origin: Origin
    timestamp_ms: int


class Producing:
    """Produces to one topic; a key decides the partition, by murmur2."""

    def __init__(self, producer: Any, topic: str) -> None:
        self._producer, self._topic = producer, topic

    async def send(self, records: Sequence[NewRecord]) -> list[Produced]:
        """Produces the records in their order, and waits until the brokers have acknowledged all.

        Raises:
            StreamerError: a record is not accepted; those after it may be.
        """
        pending = []
        for record in records:
            with _named(record, self._topic):
                send = self._producer.send(self._topic, record.value, record.key, headers=list(record.headers))
                pending.append((record, await send))
        produced = []
        for record, future in pending:
            with _named(record, self._topic):
                found = await future
            produced.append(Produced(Origin(found.topic, found.partition, found.offset), found.timestamp))
        return produced


@asynccontextmanager
async def producing(settings: Settings, topic: str) -> AsyncIterator[Producing]:
    """Connects to an existing topic.

    Raises:
        UnreachableError: no broker answers.
        ConfigError: a broker rejects the connection, or the topic does not exist.
    """
    await topics.check_topics(settings, [topic])
    async with clients.started(clients.producer(settings), settings) as producer:
        yield Producing(producer, topic)


@contextmanager
def _named(record: NewRecord, topic: str) -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        raise StreamerError(f"{record.where}: not accepted by topic {topic!r}: {error!r}") from error
