"""Makes Kafka clients from the settings, starts and stops them."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import (
    CommitFailedError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    RequestTimedOutError,
)

from streamer.errors import ConfigError
from streamer.kafka import aiokafka_client, aiokafka_patches
from streamer.kafka.assigned_consumer import AssignedConsumer, CommitBySupervisor
from streamer.kafka.produce_batch_size import INITIAL_BATCH_BYTES
from streamer.kafka.security import connection_error, security_options
from streamer.settings import Settings
from streamer.types import Partition

aiokafka_patches.apply()
aiokafka_client.apply()
# A command reports an error in one line. Without a handler Python prints each message of aiokafka, too.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())

UNAVAILABLE = (KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError, RequestTimedOutError)
"""Errors of a client while brokers are unreachable, starting or overloaded. Next: retry."""
CLIENT_ERROR = KafkaError
"""The base of all errors of a client, for packages that do not import aiokafka."""
COMMIT_LOST = CommitFailedError
"""The group has moved the partitions of a commit."""

ASSIGNOR = StickyPartitionAssignor.name
"""The assignor of this group's members."""

# Added partitions are read after this time.
_METADATA_MAX_AGE_MS = 30_000

# The reply of one broker. A worker holds it twice while it is read, and a broker returns a larger record anyway.
_FETCH_BYTES = 2**20

# The reply to a fetch is parsed in the event loop, before live records.
_BACKLOG_FETCH_BYTES = 2**18

# As above: about 1,000 ads. A broker replies when it has so many, or after 100 ms: few ads in a slice cost more each.
_ADS_FETCH_BYTES = 2**18
_ADS_WAIT_MS = 100

_Client = TypeVar("_Client", AIOKafkaConsumer, AIOKafkaProducer, AIOKafkaAdminClient, AIOKafkaClient)


def client_options(settings: Settings) -> dict[str, Any]:
    """The options that all clients share.

    Raises:
        ConfigError: a certificate, key, password file or token provider cannot be loaded.
    """
    kafka = settings.kafka
    return {
        "bootstrap_servers": kafka.bootstrap_servers,
        "client_id": kafka.client_id,
        "request_timeout_ms": kafka.request_timeout_ms,
        **security_options(kafka),
    }


def consumer(settings: Settings) -> AIOKafkaConsumer:
    """The consumer of bid requests, without automatic commits."""
    return _group_consumer(settings)


def assigned_consumer(settings: Settings, commit: CommitBySupervisor) -> AssignedConsumer:
    """The consumer of bid requests of a worker under a supervisor."""
    return AssignedConsumer(AIOKafkaConsumer(**client_options(settings), **_reading_options(settings)), commit)


def member(settings: Settings) -> AIOKafkaConsumer:
    """A member of the group whose partitions are paused.

    A fetch that begins before they are paused returns one batch at most.
    """
    return _group_consumer(settings, fetch_max_bytes=1, max_partition_fetch_bytes=1, auto_offset_reset="earliest")


def _reading_options(settings: Settings) -> dict[str, Any]:
    source = settings.source
    return {
        "enable_auto_commit": False,
        # aiokafka would pass over records in silence; `Opening` finds the position.
        "auto_offset_reset": "none",
        "fetch_max_wait_ms": source.fetch_max_wait_ms,
        "max_partition_fetch_bytes": source.max_partition_fetch_bytes,
        "fetch_max_bytes": max(_FETCH_BYTES, source.max_partition_fetch_bytes),
        "isolation_level": "read_committed",
        "metadata_max_age_ms": _METADATA_MAX_AGE_MS,
    }


def _group_consumer(settings: Settings, **reading: Any) -> AIOKafkaConsumer:
    """A member of the group.

    The assignor is sticky: a member keeps its partitions as far as the assignment stays balanced, because its cache
    holds the scores of their users.
    """

    class Sticky(StickyPartitionAssignor):  # type: ignore[misc]
        """Per consumer, because aiokafka's assignor keeps its state in class attributes."""

    kafka = settings.kafka
    return AIOKafkaConsumer(
        **client_options(settings),
        **{**_reading_options(settings), **reading},
        group_id=kafka.group_id,
        group_instance_id=kafka.group_instance_id,
        session_timeout_ms=kafka.session_timeout_ms,
        heartbeat_interval_ms=kafka.heartbeat_interval_ms,
        # The group waits for a member that drains its revoked partitions.
        rebalance_timeout_ms=kafka.session_timeout_ms + round(settings.service.drain_ms),
        # Reading pauses while answers are not acknowledged, without a limit of time. A member that left the group for
        # that would receive the same records again, in addition to those that it still holds.
        max_poll_interval_ms=2**31 - 1,
        partition_assignment_strategy=[Sticky],
    )


def backlog_consumer(settings: Settings) -> AIOKafkaConsumer:
    """The consumer of older requests, without a group: its start causes no rebalance."""
    source = settings.source
    return AIOKafkaConsumer(
        **client_options(settings),
        group_id=None,
        enable_auto_commit=False,
        # Deleted records are counted; aiokafka would pass over them in silence.
        auto_offset_reset="none",
        fetch_max_wait_ms=source.fetch_max_wait_ms,
        max_partition_fetch_bytes=min(source.max_partition_fetch_bytes, _BACKLOG_FETCH_BYTES),
        fetch_max_bytes=_FETCH_BYTES,
        isolation_level="read_committed",
    )


def ads_consumer(settings: Settings) -> AIOKafkaConsumer:
    """The consumer of the topic of ads, without a group: each machine reads all of it."""
    return AIOKafkaConsumer(
        **client_options(settings),
        group_id=None,
        enable_auto_commit=False,
        # A position that the log lacks means another table; aiokafka would pass over records in silence.
        auto_offset_reset="none",
        # It keeps at most one reply of each broker unread.
        fetch_min_bytes=_ADS_FETCH_BYTES,
        fetch_max_wait_ms=_ADS_WAIT_MS,
        fetch_max_bytes=_ADS_FETCH_BYTES,
        max_partition_fetch_bytes=_ADS_FETCH_BYTES,
        isolation_level="read_committed",
    )


def producer(settings: Settings, batch_bytes: int = INITIAL_BATCH_BYTES) -> AIOKafkaProducer:
    """The idempotent producer of answers. Its partitioner is murmur2, as in Kafka's own client."""
    return _producer(settings, batch_bytes, enable_idempotence=True)


def transactional_producer(settings: Settings, partition: Partition, batch_bytes: int) -> AIOKafkaProducer:
    """The producer for the answers of one input partition; a later one fences it."""
    return _producer(
        settings,
        batch_bytes,
        transactional_id=transactional_id(settings, partition),
        transaction_timeout_ms=settings.delivery.transaction_timeout_ms,
    )


def _producer(settings: Settings, batch_bytes: int, **options: Any) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        **client_options(settings),
        **options,
        acks="all",
        linger_ms=0,
        max_batch_size=batch_bytes,
        max_request_size=settings.sink.max_request_bytes,
    )


def transactional_id(settings: Settings, partition: Partition) -> str:
    """The id of the transactional producer of one input partition."""
    return "{}-{}-{}".format(settings.kafka.group_id, *partition)


def admin_client(settings: Settings, **options: Any) -> AIOKafkaAdminClient:
    """A client that asks for topics and groups."""
    return AIOKafkaAdminClient(**{**client_options(settings), **options})


def protocol_client(settings: Settings) -> AIOKafkaClient:
    """A client that sends single requests of the protocol."""
    return AIOKafkaClient(**client_options(settings))


@asynccontextmanager
async def started(client: _Client, settings: Settings) -> AsyncIterator[_Client]:
    """Starts a client, and stops it at the end; one that cannot be started is stopped, too.

    Raises:
        UnreachableError: no broker answers.
        ConfigError: a broker rejects the connection; the message gives the reason.
    """
    start = client.bootstrap if isinstance(client, AIOKafkaClient) else client.start
    stop = client.close if isinstance(client, (AIOKafkaAdminClient, AIOKafkaClient)) else client.stop
    try:
        await start()
    except UNAVAILABLE as error:
        raise await connection_error(settings.kafka) from error
    except KafkaError as error:
        raise ConfigError(f"kafka: {error!r}") from error
    else:
        yield client
    finally:
        await stop()


def handle_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception handler for the event loop; ignores futures that a failed client has dropped.

    The call that met the error has raised it, so nothing is lost.
    """
    if not (isinstance(context.get("exception"), KafkaError) and "never retrieved" in context["message"]):
        loop.default_exception_handler(context)
