"""The supervisor's membership of the consumer group."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from streamer.errors import ConfigError
from streamer.kafka import clients
from streamer.supervision import messages as m
from streamer.types import Partition

_RETRY_S = 1.0
_LEAVE_S = 8.0

OnAssigned = Callable[[frozenset[Partition]], None]
OnRevoked = Callable[[], Awaitable[None]]


class Member(Protocol):
    """A member of the group: `streamer.kafka.member.GroupMember`, or a fake."""

    async def join(self) -> None: ...
    async def watch(self) -> None: ...
    async def commit(self, offsets: Mapping[Partition, tuple[int, str]]) -> None: ...
    async def leave(self) -> None: ...


NewMember = Callable[[OnAssigned, OnRevoked], Member]
"""Makes a member. It calls the first function with each new assignment, and awaits the second before it loses one."""


@dataclass(slots=True, eq=False)
class Group:
    """Joins the group, commits as its member, and joins again when the membership is lost.

    1. A member that is leaving, perhaps late, assigns and revokes nothing more.
    2. No error of a member but ConfigError leaves `run`, and none leaves `commit`.
    """

    new_member: NewMember
    assigned: OnAssigned
    revoke: OnRevoked
    log: FilteringBoundLogger
    _member: Member | None = None

    async def run(self) -> None:
        """Is a member until it is cancelled; then it leaves the group at once.

        Raises:
            ConfigError: the group rejects this member, or another process has taken its static name.
        """
        while True:
            member = self._member = self._new_member()
            try:
                await member.join()
                await member.watch()
            except ConfigError:
                raise
            except Exception as error:  # an error of any class would end the supervisor
                is_expected = isinstance(error, clients.CLIENT_ERROR)
                self.log.warning("no member of the group, retried", error=repr(error), exc_info=not is_expected)
                await self.revoke()
            finally:
                if self._member is member:
                    self._member = None
                await self._leave(member)
            await asyncio.sleep(_RETRY_S)

    def _new_member(self) -> Member:
        def assigned(partitions: frozenset[Partition]) -> None:
            if self._member is member:
                self.assigned(partitions)

        async def revoke() -> None:
            if self._member is member:
                await self.revoke()

        member = self.new_member(assigned, revoke)
        return member

    async def commit(self, message: m.Commit) -> m.Committed:
        """Commits offsets of a worker."""
        offsets = {(topic, partition): (offset, text) for topic, partition, offset, text in message.offsets}
        try:
            if self._member is None:
                return m.Committed(message.id, "lost")
            await self._member.commit(offsets)
        except clients.COMMIT_LOST as error:
            return m.Committed(message.id, "lost", repr(error))
        except Exception as error:  # the offsets of one worker must not end the others
            if not isinstance(error, (clients.CLIENT_ERROR, TimeoutError)):
                self.log.exception("commit failed")
            return m.Committed(message.id, "failed", repr(error))
        return m.Committed(message.id, "stored")

    async def _leave(self, member: Member) -> None:
        try:
            async with asyncio.timeout(_LEAVE_S):
                await member.leave()
        except Exception as error:  # noqa: BLE001  as in `run`
            self.log.warning("the brokers do not answer, left without them", error=repr(error))
