"""Reads the facts about topics, group and clocks that `streamer.diagnosis` checks."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

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

    Reads the last requests, and then new ones until one arrives, at most `watch_s` seconds.

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
    ahead: list[float] = []
    ages: list[float] = []
    async with clients.started(reader, settings):
        try:
            reader.assign(partitions)
            starts, ends = await reader.beginning_offsets(partitions), await reader.end_offsets(partitions)
            for top in partitions:
                reader.seek(top, max(starts[top], ends[top] - _LAST))
            until = time.monotonic() + watch_s
            while time.monotonic() < until and not ages:
                for top, records in (await reader.getmany(timeout_ms=_POLL_MS)).items():
                    now_ms = wall_clock() * 1e3
                    ahead += [record.timestamp - now_ms for record in records]
                    ages += [now_ms - record.timestamp for record in records if record.offset >= ends[top]]
        except clients.UNAVAILABLE as error:
            raise await connection_error(settings.kafka) from error
        except KafkaError as error:
            raise ConfigError(f"kafka: {error!r}") from error
    return replace(facts, ahead_ms=max(ahead, default=None), age_ms=min(ages, default=None))
