"""Names, creates, checks and reads whole topics."""

import time
from collections.abc import AsyncIterator, Iterable, Mapping

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, TopicAuthorizationFailedError, for_code
from structlog.typing import FilteringBoundLogger

from streamer.diagnosis.kafka import compaction
from streamer.errors import ConfigError
from streamer.kafka import clients
from streamer.kafka.facts import topic_facts
from streamer.kafka.security import connection_error, user_suffix
from streamer.settings import Settings

_POLL_MS = 200


_ADS_CONFIG: Mapping[str, str] = {
    "cleanup.policy": "compact",
    # The default, 0.5, lets half of the log be older changes, which each first load would read, too.
    "min.cleanable.dirty.ratio": "0.1",
    # Only closed segments are compacted. The default is 7 days: a week of changes.
    "segment.ms": str(600_000),
    # A table that is older than an hour is loaded again, so every reader of the log sees each deletion.
    "delete.retention.ms": str(86_400_000),
}


def required_topics(settings: Settings) -> Mapping[str, Mapping[str, str]]:
    """The topics that the scorer always reads and writes, with their configuration."""
    topics = settings.topics
    retention_ms = {
        settings.source.topic: topics.retention_ms,
        settings.sink.topic: topics.retention_ms,
        settings.sink.dead_letter_topic: topics.dead_letter_retention_ms,
    }
    if settings.feature_log.share:
        retention_ms[settings.sink.feature_log_topic] = topics.feature_log_retention_ms
    largest = str(settings.sink.max_request_bytes)
    configs = {name: {"retention.ms": str(ms)} for name, ms in retention_ms.items()}
    if settings.ads.topic is not None:
        configs[settings.ads.topic] = dict(_ADS_CONFIG)
    return {name: {**config, "max.message.bytes": largest} for name, config in configs.items()}


async def create_topics(settings: Settings) -> list[tuple[str, bool]]:
    """Creates the topics that are missing.

    Returns:
        For each topic its name and whether it is new.

    Raises:
        UnreachableError: no broker answers.
        ConfigError: a broker rejects the connection or a topic.
    """
    created: list[tuple[str, bool]] = []
    topics, required = settings.topics, required_topics(settings)
    wanted = {**required, settings.sink.shadow_topic: required[settings.sink.topic]}
    async with clients.started(clients.admin_client(settings), settings) as admin:
        for name, config in wanted.items():
            topic = NewTopic(name, topics.partitions, topics.replication_factor, topic_configs=dict(config))
            try:
                response = await admin.create_topics([topic])
                codes = {code for _, code, *_ in response.topic_errors}
                for code in codes - {0, TopicAlreadyExistsError.errno}:
                    raise for_code(code)
            # aiokafka's AttributeError: no broker has told which one is the controller.
            except (*clients.UNAVAILABLE, TimeoutError, AttributeError) as error:
                raise await connection_error(settings.kafka) from error
            except KafkaError as error:
                raise ConfigError(f"topic {name!r} cannot be created: {error}") from error
            created.append((name, TopicAlreadyExistsError.errno not in codes))
    return created


async def check_topics(settings: Settings, names: Iterable[str]) -> None:
    """Checks that these topics exist and are visible to the scorer.

    Raises:
        UnreachableError: no broker answers, or none is ready.
        ConfigError: a broker rejects the connection, or a topic is missing or forbidden.
    """
    async with clients.started(clients.admin_client(settings), settings) as admin:
        try:
            visible = set(await admin.list_topics())
            # The list leaves out forbidden topics; only a request for a topic by name tells forbidden from missing.
            hidden = [name for name in names if name not in visible]
            found = {t["topic"]: t["error_code"] for t in await admin.describe_topics(hidden)} if hidden else {}
        except clients.UNAVAILABLE as error:
            raise await connection_error(settings.kafka) from error
    forbidden = [name for name, code in found.items() if code == TopicAuthorizationFailedError.errno]
    if forbidden:
        raise ConfigError(f"topic {', '.join(forbidden)} is forbidden{user_suffix(settings.kafka)}")
    missing = [name for name, code in found.items() if code]
    if missing:
        raise ConfigError(f"no topic {', '.join(missing)}; `streamer topics create` creates missing topics")


async def check_ads(settings: Settings, log: FilteringBoundLogger) -> None:
    """Checks the topics of ads and of bad ads; warns if the first loses ads.

    Without a topic for dead letters, a bad ad would stop the table.

    Raises:
        UnreachableError, ConfigError: as `check_topics`.
    """
    topic = settings.ads.topic
    assert topic is not None, "only with a topic of ads"
    await check_topics(settings, [topic, settings.sink.dead_letter_topic])
    found = (await topic_facts(settings, [topic])).topics[topic]
    for finding in () if found is None else compaction(topic, found):
        log.warning(finding.subject, reason=finding.reason, remedy=finding.remedy)


async def partitions_of(settings: Settings, topic: str) -> frozenset[int]:
    """The numbers of a topic's partitions. Raises as `check_topics`."""
    await check_topics(settings, [topic])
    async with clients.started(clients.admin_client(settings), settings) as admin:
        (found,) = await admin.describe_topics([topic])
    return frozenset(one["partition"] for one in found["partitions"])


async def records_of(settings: Settings, topic: str) -> AsyncIterator[ConsumerRecord]:
    """Reads all records that a topic holds now, without a group, one partition after the other.

    Raises:
        UnreachableError: no broker answers.
        ConfigError: a broker rejects the connection, the topic does not exist, or the brokers stop answering.
    """
    await check_topics(settings, [topic])
    async with clients.started(reader_of(settings, topic), settings) as reader:
        partitions = sorted(reader.assignment())
        ends = await reader.end_offsets(partitions)
        timeout_s = settings.kafka.request_timeout_ms / 1e3
        received_at = time.monotonic()
        for partition in partitions:
            # The position also moves past records that a reader does not get: transaction markers, compacted records.
            while await reader.position(partition) < ends[partition]:
                for record in (await reader.getmany(partition, timeout_ms=_POLL_MS)).get(partition, []):
                    received_at = time.monotonic()
                    if record.offset < ends[partition]:
                        yield record
                if time.monotonic() - received_at > timeout_s:
                    raise ConfigError(f"{topic}: the brokers have not answered for {timeout_s:g} s")


async def ends_of(settings: Settings, topic: str) -> list[int]:
    """The next offset of each partition for readers of committed records.

    Raises as `records_of`.
    """
    await check_topics(settings, [topic])
    async with clients.started(reader_of(settings, topic), settings) as reader:
        try:
            ends = await reader.end_offsets(sorted(reader.assignment()))
        except KafkaError as error:
            raise ConfigError(f"{topic}: {error!r}") from error
    return [ends[top] for top in sorted(ends)]


def reader_of(settings: Settings, topic: str) -> AIOKafkaConsumer:
    """A consumer of all partitions, without a group."""
    return AIOKafkaConsumer(
        topic,
        **clients.client_options(settings),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
