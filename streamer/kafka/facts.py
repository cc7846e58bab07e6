"""Reads the facts about topics, group and clocks that `streamer.diagnosis` checks."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from streamer.diagnosis.facts import KafkaFacts, TopicFacts
from streamer.errors import ConfigError
from streamer.kafka import clients
from streamer.kafka.security import connection_error
from streamer.settings import Settings

_LAST = 5
"""Records at the end of a partition that are read: the last one can be a marker of a transaction."""
_WATCH_S = 2.0
_POLL_MS = 100
_POLL_RECORDS = 500


async def topic_facts(settings: Settings, names: Sequence[str]) -> KafkaFacts:
    """The brokers and these topics.

    Raises:
        UnreachableError: no broker answers.
        ConfigError: a broker rejects the connection or a request.
    """
    async with clients.started(clients.admin_client(settings), settings) as admin:
        try:
            brokers = len((await admin.describe_cluster())["brokers"])
            described = {topic["topic"]: topic for topic in await admin.describe_topics(list(names))}
            present = [name for name in names if not described[name]["error_code"]]
            resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in present]
            replies = await admin.describe_configs(resources) if resources else []
        except clients.UNAVAILABLE as error:
            raise await connection_error(settings.kafka) from error
        except KafkaError as error:
            raise ConfigError(f"kafka: {error!r}") from error
    # A resource that this user may not read has no entries.
    configs = {
        resource[3]: {entry[0]: entry[1] for entry in resource[4] if entry[1] is not None}
        for reply in replies
        for resource in reply.resources
    }
    topics: dict[str, TopicFacts | None] = dict.fromkeys(names)
    for name in present:
        partitions = described[name]["partitions"]
        replicas = min((len(partition["replicas"]) for partition in partitions), default=0)
        topics[name] = TopicFacts(len(partitions), replicas, configs.get(name, {}))
    return KafkaFacts(brokers, topics)


async def with_clocks(
    settings: Settings, facts: KafkaFacts, wall_clock: Callable[[], float] = time.time, watch_s: float = _WATCH_S
) -> KafkaFacts:
    """The facts with those of the clocks.

    Raises:
        UnreachableError: no broker answers.
        ConfigError: a broker rejects the connection or a request.
    """
    reader = AIOKafkaConsumer(
        **clients.client_options(settings), group_id=None, enable_auto_commit=False, auto_offset_reset="latest"
    )
    topic = facts.topics.get(settings.source.topic)
    partitions = [TopicPartition(settings.source.topic, number) for number in range(topic.partitions if topic else 0)]
    if not partitions:
        return facts
    async with clients.started(reader, settings):
        try:
            seen = await watched(reader, partitions, settings.source.budget_ms / 2, wall_clock, watch_s)
        except clients.UNAVAILABLE as error:
            raise await connection_error(settings.kafka) from error
        except KafkaError as error:
            raise ConfigError(f"kafka: {error!r}") from error
    return replace(facts, ahead_ms=seen.ahead_ms, age_ms=seen.age_ms)


class Clocks(NamedTuple):
    """As in KafkaFacts."""

    ahead_ms: float | None
    age_ms: float | None


async def watched(
    reader: Any,
    partitions: Sequence[TopicPartition],
    young_ms: float,
    wall_clock: Callable[[], float],
    watch_s: float = _WATCH_S,
) -> Clocks:
    """Reads the last requests, and those that arrive, until one is at most `young_ms` old.

    It waits for at most `watch_s` seconds. An older one alone tells nothing: it can have waited for this reader's first
    fetch. Records without a timestamp do not count. `reader` belongs to no group.
    """
    ahead_ms, age_ms, clock = -math.inf, math.inf, asyncio.get_running_loop().time
    reader.assign(partitions)
    starts, ends = await reader.beginning_offsets(partitions), await reader.end_offsets(partitions)
    for top in partitions:
        reader.seek(top, max(starts[top], ends[top] - _LAST))
    until = clock() + watch_s
    while clock() < until and age_ms > young_ms:
        found = await reader.getmany(timeout_ms=_POLL_MS, max_records=_POLL_RECORDS)
        now_ms = wall_clock() * 1e3
        for record in (record for records in found.values() for record in records if record.timestamp >= 0):
            age = now_ms - record.timestamp
            ahead_ms = max(ahead_ms, -age)
            if record.offset >= ends[TopicPartition(record.topic, record.partition)]:
                age_ms = min(age_ms, age)
    return Clocks(*(None if math.isinf(found) else found for found in (ahead_ms, age_ms)))
