"""The consumer of a worker under a supervisor, which tells it what to read."""

from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, KafkaError

from streamer.types import Partition

Offsets = Mapping[Partition, tuple[int, str]]
"""Offsets to commit, with their metadata."""


CommitBySupervisor = Callable[[Offsets], Awaitable[bool]]
"""Returns whether the offsets are stored; false if the group has moved the partitions. Raises ConnectionError."""


class AssignedConsumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
    """Reads without a group, and commits through the supervisor, the group's member.

    A partition is read from its first `seek` on.
    """

    def __init__(self, commit: CommitBySupervisor, **options: object) -> None:
        super().__init__(group_id=None, **options)
        self._commit_by = commit
        self._unopened: set[TopicPartition] = set()

    def subscribe(self, topics: Iterable[str], *, listener: ConsumerRebalanceListener | None = None) -> None:
        """Does nothing: the supervisor has the subscription."""

    async def add(self, partitions: Iterable[Partition]) -> None:
        """Adds partitions; the others go on from their positions."""
        new = {TopicPartition(*partition) for partition in partitions} - self.assignment()
        self._unopened |= new
        await self._replace(self.assignment() | new)

    async def remove(self, partitions: Iterable[Partition]) -> None:
        """Removes partitions; the others go on from their positions."""
        gone = {TopicPartition(*partition) for partition in partitions}
        self._unopened -= gone
        await self._replace(self.assignment() - gone)

    def seek(self, top: TopicPartition, offset: int) -> None:
        """Sets the position of a partition. The first one begins to read it."""
        super().seek(top, offset)
        if top in self._unopened:
            self._unopened.remove(top)
            self.resume(top)

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

    async def _replace(self, tops: set[TopicPartition]) -> None:
        """Assigns exactly these partitions.

        aiokafka forgets all positions and pauses with an assignment.
        """
        positions = {top: await self.position(top) for top in self.assignment() - self._unopened}
        paused = self.paused()
        self.assign(set(tops))
        # No `await` from here on: the fetching task must not see a partition without its position.
        for top in tops:
            super().seek(top, positions.get(top, 0))
        self.pause(*((paused | self._unopened) & tops))
