"""Reads the consumer group's commits, and checks the rights of its members."""

from collections.abc import Iterable, Mapping

from aiokafka import TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TransactionalIdAuthorizationFailed

from streamer.errors import ConfigError, UnreachableError
from streamer.kafka import clients
from streamer.kafka.security import user_suffix
from streamer.settings import Settings
from streamer.types import Partition


async def commits_of(settings: Settings, partitions: Iterable[Partition]) -> Mapping[Partition, tuple[int, str]]:
    """The group's committed offsets with their metadata; partitions without a commit are absent.

    Raises:
        UnreachableError: no broker answers.
        ConfigError: a broker rejects the connection.
        KafkaError: the coordinator cannot answer now.
    """
    wanted = [TopicPartition(*partition) for partition in partitions]
    async with clients.started(clients.admin_client(settings), settings) as admin:
        found = await admin.list_consumer_group_offsets(settings.kafka.group_id, partitions=wanted)
    # A coordinator that is still loading the group names no partition, and aiokafka ignores its error code.
    absent = [f"{topic}/{number}" for topic, number in wanted if (topic, number) not in found]
    if absent:
        raise KafkaError(f"the coordinator of group {settings.kafka.group_id} cannot answer now: {', '.join(absent)}")
    return {(top.topic, top.partition): (at.offset, at.metadata or "") for top, at in found.items() if at.offset >= 0}


async def check_group(settings: Settings) -> None:
    """Checks the rights to join the group and, with `exactly_once`, to use transactional ids.

    Raises:
        UnreachableError: no broker answers, or none can answer now.
        ConfigError: a broker rejects the connection, or the group or its transactional ids are forbidden.
    """
    group = settings.kafka.group_id
    async with clients.started(clients.admin_client(settings), settings) as admin:
        try:
            await admin.find_coordinator(group)
            if settings.delivery.guarantee == "exactly_once":
                await admin.find_coordinator(clients.transactional_id(settings, (settings.source.topic, 0)), 1)
        except GroupAuthorizationFailedError as error:
            raise ConfigError(f"group {group} is forbidden{user_suffix(settings.kafka)}") from error
        except TransactionalIdAuthorizationFailed as error:
            raise ConfigError(f"transactional ids {group}-… are forbidden{user_suffix(settings.kafka)}") from error
        except KafkaError as error:
            raise UnreachableError(f"kafka.group_id: no broker names the coordinator of {group}: {error!r}") from error
