"""Reads the record at one position of a topic, for a command."""

import asyncio
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from streamer.errors import ConfigError, StreamerError
from streamer.kafka import clients, topics
from streamer.kafka.record_batches import DamagedLog
from streamer.settings import Settings
from streamer.types import Partition

_POLL_MS = 100


async def read_record(settings: Settings, partition: Partition, offset: int) -> ConsumerRecord:
    """The record at an offset, read without a group, within `kafka.request_timeout_ms`.

    Raises:
        ConfigError: no broker answers, or there is no such topic or partition.
        StreamerError: as `record_at`.
    """
    topic, number = partition
    numbers = await topics.partitions_of(settings, topic)
    if number not in numbers:
        raise ConfigError(f"topic {topic!r} has no partition {number}; its partitions are 0 to {max(numbers)}")
    timeout_s = settings.kafka.request_timeout_ms / 1e3
    async with clients.started(clients.backlog_consumer(settings), settings) as consumer:
        try:
            async with asyncio.timeout(timeout_s):
                return await record_at(consumer, partition, offset)
        except TimeoutError:
            raise ConfigError(f"{topic}/{number}: the brokers have not answered for {timeout_s:g} s") from None
        except KafkaError as error:
            raise ConfigError(f"{topic}/{number}: {error!r}") from error


async def record_at(consumer: Any, partition: Partition, offset: int) -> ConsumerRecord:
    """The record at an offset, as UnreadableRecord if it will never be readable.

    `consumer` belongs to no group.

    Raises:
        StreamerError: nothing was written there yet, it was removed, or the log is damaged there.
    """
    top, where = TopicPartition(*partition), f"{partition[0]}/{partition[1]} at offset {offset}"
    consumer.assign([top])
    first, end = (await consumer.beginning_offsets([top]))[top], (await consumer.end_offsets([top]))[top]
    if offset >= end:
        raise StreamerError(f"{where}: no record yet (or its transaction has not ended); the next one gets {end}")
    deleted = StreamerError(f"{where}: deleted by the topic's retention; the first record is at {first}")
    if offset < first:
        raise deleted
    consumer.seek(top, offset)
    try:
        while await consumer.position(top) <= offset:
            found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=1)
            for record in found.get(top, ()):
                if isinstance(record, DamagedLog):
                    raise StreamerError(f"{where}: cannot be read: {record.reason}")
                if record.offset == offset:
                    return record
    except OffsetOutOfRangeError:
        raise deleted from None  # between the two calls
    raise StreamerError(f"{where}: no record; compaction has removed it, or a transaction ends there or was aborted")
