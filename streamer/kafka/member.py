"""A member of the consumer group that reads nothing.

It gets partitions, and commits offsets for the processes that read them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, GroupAuthorizationFailedError, IllegalStateError, KafkaError
from structlog.typing import FilteringBoundLogger

from streamer.errors import ConfigError
from streamer.kafka import clients
from streamer.kafka.aiokafka_coordinator import MemberRejectedError
from streamer.kafka.security import group_forbidden
from streamer.settings import Settings
from streamer.types import Partition

_POLL_MS = 1000
_RETRY_S = 1.0


class GroupMember(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """The group's member on a machine whose workers read the partitions.

    1. `assigned` gets all partitions of each new assignment, also if they are the same as before, or none.
    2. `revoke` is awaited before the group rebalances; all partitions are then revoked. Heartbeats go on meanwhile, and
       commits are possible unless the membership is lost.
    3. A member whose static name another process has taken does not rejoin; `revoke` is not called then.

    Both callbacks run in a task of aiokafka, which logs and otherwise ignores their errors. `assigned` must not block.
    """

    def __init__(
        self,
        settings: Settings,
        log: FilteringBoundLogger,
        assigned: Callable[[frozenset[Partition]], None],
        revoke: Callable[[], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._log = log
        self._assigned = assigned
        self._revoke = revoke
        self._client: AIOKafkaConsumer | None = None

    @property
    def _consumer(self) -> AIOKafkaConsumer:
        """Made at the first use: it needs a running event loop."""
        if self._client is None:
            self._client = clients.member(self._settings)
            self._client.subscribe([self._settings.source.topic], listener=self)
        return self._client

    async def join(self) -> None:
        """Joins the group, and returns after the first assignment.

        It may be called again after an error of `clients.UNAVAILABLE`.

        Raises:
            ConfigError: a certificate or password cannot be loaded, the group rejects this member or its user, or
                another process has taken the static name.
            KafkaError: the brokers cannot be reached or reject the member.
        """
        try:
            await self._consumer.start()
        except MemberRejectedError as error:
            raise ConfigError(str(error)) from error
        except GroupAuthorizationFailedError as error:
            raise group_forbidden(self._settings.kafka) from error

    async def watch(self) -> None:
        """Waits for errors of the member until it is cancelled.

        Raises:
            ConfigError: the group rejects this member, or another process has taken the static name.
            KafkaError: a background task of aiokafka has died.
        """
        while True:
            try:
                # All partitions are paused, so this returns no records; it raises the errors of background tasks.
                await self._consumer.getmany(timeout_ms=_POLL_MS)
            except MemberRejectedError as error:
                raise ConfigError(str(error)) from error
            except KafkaError as error:
                if type(error) is KafkaError:
                    raise
                # A missing right, for example. The member goes on when an operator has repaired it.
                self._log.error("group membership failed, retried", error=repr(error))
                await asyncio.sleep(_RETRY_S)

    async def commit(self, offsets: Mapping[Partition, tuple[int, str]]) -> None:
        """Commits an offset with its metadata for each partition.

        Raises:
            CommitFailedError: the group has rebalanced, or a partition is not assigned to this member.
            KafkaError: the coordinator rejects the commit.
            TimeoutError: no coordinator has answered within `kafka.request_timeout_ms`.
        """
        try:
            # Without a broker aiokafka retries without a limit.
            async with asyncio.timeout(self._settings.kafka.request_timeout_ms / 1e3):
                await self._consumer.commit({TopicPartition(*partition): at for partition, at in offsets.items()})
        except IllegalStateError as error:
            raise CommitFailedError(str(error)) from error

    async def leave(self) -> None:
        """Leaves the group at once; the other members get the partitions. No callback is called."""
        if self._client is not None:
            await self._client.stop()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Passes the assignment on, and makes aiokafka fetch nothing."""
        tops = list(assigned)
        for top in tops:
            # With a position, aiokafka does not ask for the commits.
            self._consumer.seek(top, 0)
        self._consumer.pause(*tops)
        self._assigned(frozenset((top.topic, top.partition) for top in tops))

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Waits until the partitions are drained."""
        if list(revoked):
            await self._revoke()
