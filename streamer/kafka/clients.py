"""Settings to Kafka clients."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka import conn as connections
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    RequestTimedOutError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    for_code,
)

from streamer.errors import ConfigError, UnreachableError
from streamer.kafka.produce_batch_size import START_BYTES
from streamer.kafka.security import security_options, why_unreachable
from streamer.settings import Settings
from streamer.types import Partition

NOT_YET = (KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError, RequestTimedOutError)
"""What a client meets while brokers are away, start, or are busy."""

_POLL_MS = 200


class _Connection(AIOKafkaConnection):  # type: ignore[misc]  # aiokafka has no types
    """A connection that says so when it has just been lost.

    Until the client is told, uvloop refuses to write with a RuntimeError, where asyncio's own loop lets it pass. The
    client takes that for a bug: its task that fetches, or learns of new leaders, ends, and nothing begins it again.
    """

    def send(self, request: Any, expect_response: bool = True) -> Any:
        try:
            return super().send(request, expect_response)
        except RuntimeError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)
            raise KafkaConnectionError(f"connection to {self.host}:{self.port} is lost: {error}") from error


# The client has no other place to say of which class its connections are.
connections.AIOKafkaConnection = _Connection

_Client = TypeVar("_Client", AIOKafkaConsumer, AIOKafkaProducer)


def _client(settings: Settings) -> dict[str, Any]:
    kafka = settings.kafka
    return {
        "bootstrap_servers": kafka.bootstrap_servers,
        "client_id": kafka.client_id,
        "request_timeout_ms": kafka.request_timeout_ms,
        **security_options(kafka),
    }


def consumer(settings: Settings) -> AIOKafkaConsumer:
    """The consumer of bid requests. Offsets are committed by hand, behind what has been answered.

    Who stays in the group keeps its partitions, as far as the shares are fair: its caches know their users.
    """

    class Sticky(StickyPartitionAssignor):  # type: ignore[misc]
        """The client's assignor remembers in its class what it had: one for each consumer."""

    source = settings.source
    return AIOKafkaConsumer(
        **_client(settings),
        group_id=settings.kafka.group_id,
        group_instance_id=settings.kafka.group_instance_id,
        enable_auto_commit=False,
        session_timeout_ms=settings.kafka.session_timeout_ms,
        heartbeat_interval_ms=settings.kafka.session_timeout_ms // 3,
        # Who still works off partitions that are taken away is waited for, not thrown out.
        rebalance_timeout_ms=settings.kafka.session_timeout_ms + round(settings.service.drain_ms),
        # Reading stops while answers are not taken, however long. Whoever left the group for that would be given the
        # same records again, beside those that it still has.
        max_poll_interval_ms=2**31 - 1,
        partition_assignment_strategy=[Sticky],
        auto_offset_reset=source.start_at,
        fetch_max_wait_ms=source.fetch_max_wait_ms,
        max_partition_fetch_bytes=source.max_partition_fetch_bytes,
        isolation_level="read_committed",
    )


def producer(settings: Settings, batch_bytes: int = START_BYTES) -> AIOKafkaProducer:
    """The idempotent producer of answers. Its partitioner is murmur2, Kafka's own."""
    return AIOKafkaProducer(
        **_client(settings),
        enable_idempotence=True,
        acks="all",
        linger_ms=0,
        max_batch_size=batch_bytes,
        max_request_size=settings.sink.max_request_bytes,
    )


def transactional_producer(settings: Settings, partition: Partition, batch_bytes: int) -> AIOKafkaProducer:
    """The producer of what comes of one input partition. Whoever starts another one of its id fences this one."""
    topic, number = partition
    return AIOKafkaProducer(
        **_client(settings),
        transactional_id=_transactional_id(settings, topic, number),
        transaction_timeout_ms=settings.delivery.transaction_timeout_ms,
        acks="all",
        linger_ms=0,
        max_batch_size=batch_bytes,
        max_request_size=settings.sink.max_request_bytes,
    )


def _transactional_id(settings: Settings, topic: str, number: int) -> str:
    return f"{settings.kafka.group_id}-{topic}-{number}"


async def commits_of(settings: Settings, partitions: Iterable[Partition]) -> Mapping[Partition, tuple[int, str]]:
    """The group's committed offsets with their metadata; partitions without a commit are left out.

    Raises:
        UnreachableError: no broker answers.
        ConfigError: the brokers refuse us.
        KafkaError: they cannot say for now.
    """
    asked = [TopicPartition(*partition) for partition in partitions]
    async with _Admin(settings) as admin:
        found = await admin.list_consumer_group_offsets(settings.kafka.group_id, partitions=asked)
    # A coordinator that cannot say names no partition, and the client takes no notice of the reason that it gives.
    unnamed = [f"{partition.topic}/{partition.partition}" for partition in asked if partition not in found]
    if unnamed:
        raise KafkaError(f"the coordinator of {settings.kafka.group_id} cannot say for now: {', '.join(unnamed)}")
    return {(tp.topic, tp.partition): (at.offset, at.metadata) for tp, at in found.items() if at.offset >= 0}


def handle_unowned(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's handler of errors that nobody has asked for.

    A client that fails leaves futures of its own behind; the same error has been raised by the call that met it.
    """
    if not (isinstance(context.get("exception"), KafkaError) and "never retrieved" in context["message"]):
        loop.default_exception_handler(context)


@asynccontextmanager
async def started(client: _Client, settings: Settings) -> AsyncIterator[_Client]:
    """A client that is started, and stopped at the end.

    Raises:
        ConfigError: the brokers cannot be reached.
    """
    await start(client, settings)
    try:
        yield client
    finally:
        await client.stop()


async def start(client: AIOKafkaConsumer | AIOKafkaProducer | AIOKafkaAdminClient, settings: Settings) -> None:
    """Starts a client; one that cannot be started is closed.

    Raises:
        UnreachableError: no broker answers.
        ConfigError: the brokers refuse us, and why.
    """
    try:
        await client.start()
    except NOT_YET as error:
        await _close(client)
        raise await why_unreachable(settings.kafka, security_options(settings.kafka)) from error
    except KafkaError as error:
        await _close(client)
        raise ConfigError(f"kafka: {error!r}") from error


async def _close(client: AIOKafkaConsumer | AIOKafkaProducer | AIOKafkaAdminClient) -> None:
    await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())


async def records_of(settings: Settings, topic: str) -> AsyncIterator[ConsumerRecord]:
    """The records that a topic holds now, of no group, those of a partition in their order.

    Raises:
        ConfigError: the brokers cannot be reached, have no such topic, or stop answering.
    """
    await check_topics(settings, [topic])
    reader = AIOKafkaConsumer(
        topic,
        **_client(settings),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    async with started(reader, settings):
        partitions = sorted(reader.assignment())
        ends = await reader.end_offsets(partitions)
        patience_s = settings.kafka.request_timeout_ms / 1e3
        heard = time.monotonic()
        for partition in partitions:
            # The position moves over what a reader does not see, too: markers of transactions, compacted records.
            while await reader.position(partition) < ends[partition]:
                for record in (await reader.getmany(partition, timeout_ms=_POLL_MS)).get(partition, []):
                    heard = time.monotonic()
                    if record.offset < ends[partition]:
                        yield record
                if time.monotonic() - heard > patience_s:
                    raise ConfigError(f"{topic}: the brokers have not answered for {patience_s:g} s")


def wanted_topics(settings: Settings) -> Mapping[str, Mapping[str, str]]:
    """The topics that the scorer always reads and writes, with their configuration."""
    topics = settings.topics
    largest = str(settings.sink.max_request_bytes)
    short = {"retention.ms": str(topics.retention_ms), "max.message.bytes": largest}
    kept = {settings.sink.dead_letter_topic: topics.dead_letter_retention_ms}
    if settings.feature_log.share:
        kept[settings.sink.feature_log_topic] = topics.feature_log_retention_ms
    return {
        settings.source.topic: short,
        settings.sink.topic: short,
        **{name: {"retention.ms": str(ms), "max.message.bytes": largest} for name, ms in kept.items()},
    }


async def create_topics(settings: Settings) -> list[tuple[str, bool]]:
    """Creates what is missing.

    Returns:
        topic and whether it is new, for each.

    Raises:
        ConfigError: the brokers cannot be reached or refuse.
    """
    made: list[tuple[str, bool]] = []
    async with _Admin(settings) as admin:
        wanted = {**wanted_topics(settings)}
        wanted[settings.sink.shadow_topic] = wanted[settings.sink.topic]
        for name, config in wanted.items():
            topics = settings.topics
            topic = NewTopic(name, topics.partitions, topics.replication_factor, topic_configs=dict(config))
            try:
                response = await admin.create_topics([topic])
                _raise_for(response)
            except TopicAlreadyExistsError:
                made.append((name, False))
            except KafkaError as error:
                raise ConfigError(f"topic {name!r} cannot be created: {error}") from error
            else:
                made.append((name, True))
    return made


async def check_topics(settings: Settings, names: Iterable[str]) -> None:
    """Are these topics there, and may we see them?

    Raises:
        UnreachableError: no broker answers.
        ConfigError: the brokers refuse us, a topic is missing, or it is forbidden to us.
    """
    async with _Admin(settings) as admin:
        try:
            visible = set(await admin.list_topics())
            # What is forbidden is not in the list; only a question by its name tells it from what is not there.
            asked = [name for name in names if name not in visible]
            found = {t["topic"]: t["error_code"] for t in await admin.describe_topics(asked)} if asked else {}
        except NOT_YET as error:
            why = await why_unreachable(settings.kafka, security_options(settings.kafka))
            if not isinstance(why, UnreachableError):
                raise why from error
            raise UnreachableError(f"kafka.bootstrap_servers: the brokers are not ready: {error!r}") from error
    forbidden = [name for name, code in found.items() if code == TopicAuthorizationFailedError.errno]
    if forbidden:
        raise ConfigError(f"topic {', '.join(forbidden)} is forbidden{_to_whom(settings)}")
    missing = [name for name, code in found.items() if code]
    if missing:
        raise ConfigError(f"no topic {', '.join(missing)}; `streamer topics create` makes what is missing")


async def check_group(settings: Settings) -> None:
    """May we be a member of our group, and use its transactional ids where we need them?

    Raises:
        UnreachableError: no broker answers, or none can say for now.
        ConfigError: the brokers refuse us, or the group or its transactional ids are forbidden to us.
    """
    group = settings.kafka.group_id
    async with _Admin(settings) as admin:
        try:
            await admin.find_coordinator(group)
            if settings.delivery.guarantee == "exactly_once":
                await admin.find_coordinator(_transactional_id(settings, settings.source.topic, 0), 1)
        except GroupAuthorizationFailedError as error:
            raise ConfigError(f"group {group} is forbidden{_to_whom(settings)}") from error
        except TransactionalIdAuthorizationFailed as error:
            raise ConfigError(f"transactional ids {group}-… are forbidden{_to_whom(settings)}") from error
        except KafkaError as error:
            raise UnreachableError(f"kafka.group_id: the brokers cannot say where {group} is: {error!r}") from error


def _to_whom(settings: Settings) -> str:
    return f" to {settings.kafka.sasl_username!r}" if settings.kafka.sasl_username else ""


class _Admin:
    """An admin client that says in one line why it cannot be started."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin = AIOKafkaAdminClient(**_client(settings))

    async def __aenter__(self) -> AIOKafkaAdminClient:
        await start(self._admin, self._settings)
        return self._admin

    async def __aexit__(self, *_: object) -> None:
        await self._admin.close()


def _raise_for(response: Any) -> None:
    for _, code, *_ in response.topic_errors:
        if code:
            raise for_code(code)
