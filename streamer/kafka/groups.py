"""Reads the consumer group's commits, and checks the rights of its members."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from aiokafka import TopicPartition
from aiokafka.client import CoordinationType
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TransactionalIdAuthorizationFailed, for_code
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.group import HeartbeatRequest

from streamer.errors import ConfigError, UnreachableError
from streamer.kafka import clients, rejections
from streamer.kafka.any_broker import ask_any
from streamer.kafka.described_group import DescribedGroup, DescribeGroup
from streamer.kafka.security import connection_error, group_forbidden, user_suffix
from streamer.settings import Settings
from streamer.types import Partition


async def commits_of(
    settings: Settings, partitions: Iterable[Partition], try_s: float | None = None
) -> Mapping[Partition, tuple[int, str]]:
    """The group's committed offsets with their metadata; partitions without a commit are absent.

    `try_s`: the time for each broker's answer, in seconds; at most and by default `kafka.request_timeout_ms`.

    Raises:
        UnreachableError: no broker answers.
        ConfigError: a broker rejects the connection.
        KafkaError: the coordinator cannot answer now.
    """
    wanted = [TopicPartition(*partition) for partition in partitions]
    group, timeout_s = settings.kafka.group_id, settings.kafka.request_timeout_ms / 1e3
    each_s = timeout_s if try_s is None else min(timeout_s, try_s)
    # With this timeout aiokafka goes on to the next bootstrap address.
    admin = clients.admin_client(settings, request_timeout_ms=max(1, round(each_s * 1e3)))
    async with clients.started(admin, settings):
        # Not `find_coordinator`, which asks one random broker.
        answer = await ask_any(admin._client, FindCoordinatorRequest(group, 0), each_s)  # noqa: SLF001
        if answer.error_code:
            raise for_code(answer.error_code)(group)
        found = await admin.list_consumer_group_offsets(group, answer.coordinator_id, wanted)
    # A coordinator that is still loading the group names no partition, and aiokafka ignores its error code.
    absent = [f"{topic}/{number}" for topic, number in wanted if (topic, number) not in found]
    if absent:
        raise KafkaError(f"the coordinator of group {group} cannot answer now: {', '.join(absent)}")
    return {(top.topic, top.partition): (at.offset, at.metadata or "") for top, at in found.items() if at.offset >= 0}


async def check_group(settings: Settings) -> None:
    """Checks the rights for the group and, with `exactly_once`, for transactions.

    Raises:
        UnreachableError: no broker answers, or none can answer now.
        ConfigError: a broker rejects the connection, the group, its transactional ids or
            `delivery.transaction_timeout_ms`.
    """
    async with clients.started(clients.protocol_client(settings), settings) as client, _answers(settings):
        await client.coordinator_lookup(CoordinationType.GROUP, settings.kafka.group_id)
        if settings.delivery.guarantee == "exactly_once":
            transactional_id = clients.transactional_id(settings, (settings.source.topic, 0))
            coordinator = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
            timeout_ms = settings.delivery.transaction_timeout_ms
            limits = await rejections.limits_of(client, coordinator)
            if not rejections.is_transaction_accepted(timeout_ms, limits):
                raise ConfigError(rejections.transaction_timeout(timeout_ms, limits))


async def check_membership(settings: Settings) -> None:
    """Checks, without joining it, whether the group would accept a member.

    Raises:
        UnreachableError: no broker answers, or none can answer now.
        ConfigError: a broker rejects the connection, the group or `kafka.session_timeout_ms`, or the group's members
            have another assignor.
    """
    kafka = settings.kafka
    async with clients.started(clients.protocol_client(settings), settings) as client, _answers(settings):
        coordinator = await client.coordinator_lookup(CoordinationType.GROUP, kafka.group_id)
        # A heartbeat of nobody: a broker checks the right to read before the member.
        reply = await client.send(coordinator, HeartbeatRequest(kafka.group_id, -1, "nobody"))
        if for_code(reply.error_code) is GroupAuthorizationFailedError:
            raise GroupAuthorizationFailedError(kafka.group_id)
        limits = await rejections.limits_of(client, coordinator)
        if not rejections.is_session_accepted(kafka.session_timeout_ms, limits):
            raise ConfigError(rejections.session_timeout(kafka.session_timeout_ms, limits))
        try:
            group = DescribedGroup.of(await client.send(coordinator, DescribeGroup(kafka.group_id)))
        except NotImplementedError:  # brokers before Kafka 2.4
            return
        if group.is_stable and (group.protocol_type, group.protocol) != ("consumer", clients.ASSIGNOR):
            raise ConfigError(rejections.other_members(kafka.group_id, clients.ASSIGNOR, group))


async def members(settings: Settings) -> int | None:
    """The number of members of the group; None if the brokers do not tell.

    Raises:
        UnreachableError, ConfigError: as `check_group`.
    """
    async with clients.started(clients.protocol_client(settings), settings) as client, _answers(settings):
        coordinator = await client.coordinator_lookup(CoordinationType.GROUP, settings.kafka.group_id)
        try:
            reply = await client.send(coordinator, DescribeGroup(settings.kafka.group_id))
        except NotImplementedError:  # brokers before Kafka 2.4
            return None
    return len(DescribedGroup.of(reply).members)


@asynccontextmanager
async def _answers(settings: Settings) -> AsyncIterator[None]:
    """In the block, the brokers' rejections and failures become a ConfigError."""
    group = settings.kafka.group_id
    try:
        yield
    except GroupAuthorizationFailedError as error:
        raise group_forbidden(settings.kafka) from error
    except TransactionalIdAuthorizationFailed as error:
        raise ConfigError(f"transactional ids {group}-… are forbidden{user_suffix(settings.kafka)}") from error
    except clients.UNAVAILABLE as error:
        raise await connection_error(settings.kafka) from error
    except KafkaError as error:
        raise UnreachableError(f"kafka.group_id: no broker names the coordinator of {group}: {error!r}") from error
