"""Members of a consumer group on a real broker, which record what happens to them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from aiokafka.errors import KafkaError

from sandbox.broker.kafka import KafkaBroker
from streamer.kafka.aiokafka_coordinator import MemberCoordinator
from streamer.kafka.member import GroupMember
from streamer.settings import Settings
from streamer.types import Partition

WAIT_S = 120.0


def settings_of(kafka: KafkaBroker, topic: str, name: str | None = None, **changed: object) -> Settings:
    """A member of the topic's group.

    Its session is much longer than any wait for a heartbeat, so that no test passes by the end of a session.
    """
    section = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "group_id": f"group-of-{topic}",
        "group_instance_id": name,
        "session_timeout_ms": 60_000,
        "heartbeat_interval_ms": 100,
        "request_timeout_ms": 60_000,
        **changed,
    }
    return Settings.model_validate({"kafka": section, "source": {"topic": topic}})


async def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition that the brokers decide."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


class Member:
    """A `GroupMember`, the events of its callbacks, and the task that watches it."""

    def __init__(self, settings: Settings) -> None:
        self.events: list[str] = []
        self.has: frozenset[int] = frozenset()
        self.in_revoke: Callable[[], Any] | None = None
        self.client = GroupMember(settings, structlog.get_logger(), self._assigned, self._revoke)
        self.watching: asyncio.Task[None] | None = None

    @property
    def coordinator(self) -> MemberCoordinator:
        coordinator = self.client._consumer._coordinator  # noqa: SLF001
        assert isinstance(coordinator, MemberCoordinator)
        return coordinator

    async def join(self) -> None:
        await self.client.join()
        self.watching = asyncio.create_task(self.client.watch())

    async def leave(self) -> None:
        """Leaves the group, as a process that drains."""
        if self.watching is not None:
            self.watching.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self.watching
        await self.client.leave()

    async def error(self) -> BaseException | None:
        """The error that ends `watch`."""
        assert self.watching is not None
        async with asyncio.timeout(WAIT_S):
            await asyncio.wait([self.watching])
        return self.watching.exception()

    async def attempt_commit(self, partition: Partition, offset: int) -> str:
        """Commits; the name of the error, or `committed`."""
        try:
            await self.client.commit({partition: (offset, "of a test")})
        except KafkaError as error:
            return type(error).__name__
        return "committed"

    def _assigned(self, partitions: frozenset[Partition]) -> None:
        self.has = frozenset(number for _, number in partitions)
        self.events.append(f"assigned {sorted(self.has)}")

    async def _revoke(self) -> None:
        self.events.append("revoke")
        if self.in_revoke is not None:
            await self.in_revoke()


@asynccontextmanager
async def joined(*settings: Settings) -> AsyncIterator[list[Member]]:
    """Members that join one after the other, and leave at the end."""
    members = [Member(each) for each in settings]
    try:
        for member in members:
            await member.join()
        yield members
    finally:
        for member in members:
            await member.leave()
