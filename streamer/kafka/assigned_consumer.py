"""The consumer of a worker under a supervisor, which tells it what to read."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, KafkaError

from streamer.types import Partition

Offsets = Mapping[Partition, tuple[int, str]]
"""Offsets to commit, with their metadata."""


CommitBySupervisor = Callable[[Offsets], Awaitable[bool]]
"""Returns whether the offsets are stored; false if the group has moved the partitions. Raises ConnectionError."""


class AssignedConsumer:
    """Reads without a group, and commits through the supervisor, the group's member.

    It has the methods of its `reader`, a consumer without a group. A partition is read from its first `seek` on.
    """

    def __init__(self, reader: Any, commit: CommitBySupervisor) -> None:
        self._reader = reader
        self._commit_by = commit
        self._unopened: set[TopicPartition] = set()
        self._one_at_a_time = asyncio.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def subscribe(self, topics: Iterable[str], *, listener: ConsumerRebalanceListener | None = None) -> None:
        """Does nothing: the supervisor has the subscription."""

    async def start(self) -> None:
        """Connects."""
        await self._reader.start()
        # Without an assignment, even an empty one, `getmany` would never return.
        self._reader.assign(set())

    async def add(self, partitions: Iterable[Partition]) -> None:
        """Adds partitions; the others go on from their positions."""
        await self._change(lambda before: before | {TopicPartition(*partition) for partition in partitions})

    async def remove(self, partitions: Iterable[Partition]) -> None:
        """Removes partitions; the others go on from their positions."""
        await self._change(lambda before: before - {TopicPartition(*partition) for partition in partitions})

    def seek(self, top: TopicPartition, offset: int) -> None:
        """Sets the position of a partition. The first one begins to read it."""
        self._reader.seek(top, offset)
        if top in self._unopened:
            self._unopened.remove(top)
            self._reader.resume(top)

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Commits through the supervisor.

        Raises:
            CommitFailedError: the group has moved the partitions meanwhile.
            KafkaError: the supervisor could not commit.
        """
        try:
            is_stored = await self._commit_by({(top.topic, top.partition): at for top, at in offsets.items()})
        except ConnectionError as error:
            raise KafkaError(str(error)) from error
        if not is_stored:
            raise CommitFailedError("the group has moved the partitions")

    async def _change(self, change: Callable[[set[TopicPartition]], set[TopicPartition]]) -> None:
        """Changes the assignment. aiokafka forgets all positions and pauses with it."""
        reader = self._reader
        async with self._one_at_a_time:
            # Each is known at once, because aiokafka resets no position (`auto_offset_reset` is none).
            positions = {top: await reader.position(top) for top in reader.assignment() - self._unopened}
            # No `await` from here on: the fetching task must not see a partition without its position.
            before, paused = set(reader.assignment()), reader.paused()
            after = change(before)
            self._unopened = (self._unopened & after) | (after - before)
            reader.assign(after)
            for top in after:
                reader.seek(top, positions.get(top, 0))
            reader.pause(*(top for top in after if top in paused or top in self._unopened))
