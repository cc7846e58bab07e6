"""A worker's end of the link: executes the supervisor's commands, and commits through it."""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streamer.errors import PredictError
from streamer.rollout.orders import ModelOrders, orders_of
from streamer.supervision import messages as m
from streamer.supervision.link import Link
from streamer.tasks import Spawn
from streamer.types import Partition

_BEAT_S = 0.5
_ENDED = "the supervisor has ended"


class Partitions(Protocol):
    """The partitions that a worker reads by command."""

    async def open(
        self, partitions: frozenset[Partition], report: Callable[[frozenset[Partition]], None]
    ) -> frozenset[Partition]:
        """Opens partitions; returns those that are read now.

        `report` is called with those that are read while others cannot be opened.
        """

    async def release(self, partitions: frozenset[Partition]) -> int:
        """Drains, commits and releases partitions; returns how many of their records are unanswered."""

    def suspects(self) -> Mapping[Partition, int]:
        """Partitions with deaths at their position, with the number of deaths."""


class Models(Protocol):
    """The models of a worker."""

    def describe(self) -> list[dict[str, object]]:
        """The versions of each model and their roles."""

    async def adopt(self, orders: Sequence[ModelOrders]) -> None:
        """Takes orders over. Raises PredictError if a version that shall serve cannot be prepared."""


@dataclass(slots=True, eq=False)
class WorkerLink:
    """Connects a worker to its supervisor.

    1. Commands start in the order in which they arrive; a release does not wait for another partition's opening.
    2. An opening reports nothing about a partition that was released after its command.
    3. Every commit ends: with the supervisor's answer, or with ConnectionError when the link closes.
    """

    _link: Link[m.ToWorker]
    admitted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the worker has the supervisor's orders for its models."""
    _commits: dict[int, asyncio.Future[m.Committed]] = field(default_factory=dict)
    _openings: list[set[Partition]] = field(default_factory=list)
    """The partitions of each opening that were not released since."""
    _last_id: int = 0
    _is_closed: bool = False

    @classmethod
    async def over(cls, descriptor: int) -> "WorkerLink":
        """A link over the file descriptor that the supervisor passes to its worker."""
        return cls(await Link.over(socket.socket(fileno=descriptor), m.TO_WORKER))

    async def commit(self, offsets: Mapping[Partition, tuple[int, str]]) -> bool:
        """Commits offsets with metadata; false if the group has moved the partitions.

        Raises:
            ConnectionError: the supervisor could not commit, or has ended.
        """
        if self._is_closed:
            raise ConnectionError(_ENDED)
        self._last_id = number = self._last_id + 1
        found: asyncio.Future[m.Committed] = asyncio.get_running_loop().create_future()
        self._commits[number] = found
        try:
            self._link.send(m.Commit(number, [(*partition, *at) for partition, at in offsets.items()]))
            committed = await found
        finally:
            del self._commits[number]
        if committed.outcome == "failed":
            raise ConnectionError(committed.error)
        return committed.outcome == "stored"

    async def run(self, partitions: Partitions, models: Models, spawn: Spawn) -> None:
        """Reports that the worker is ready, and executes commands until the link closes."""
        self._link.send(m.Ready())
        spawn(self._beat(partitions, models), "beat")
        try:
            async for message in self._link.messages():
                match message:
                    case m.Assign():
                        spawn(self._open(partitions, frozenset(message.partitions)), "open partitions")
                    case m.Release():
                        spawn(self._release(partitions, frozenset(message.partitions)), "release partitions")
                    case m.Adopt():
                        spawn(self._adopt(models, message), "adopt orders")
                    case m.Admitted():
                        self.admitted.set()
                    case m.Committed() if (commit := self._commits.get(message.id)) and not commit.done():
                        commit.set_result(message)
        finally:
            self._is_closed = True
            self._link.close()
            for commit in self._commits.values():
                if not commit.done():
                    commit.set_exception(ConnectionError(_ENDED))

    async def _beat(self, partitions: Partitions, models: Models) -> None:
        while True:
            self._link.send(m.Beat(list(partitions.suspects().items()), orders_of(models.describe())))
            await asyncio.sleep(_BEAT_S)

    async def _open(self, partitions: Partitions, new: frozenset[Partition]) -> None:
        wanted = set(new)
        self._openings.append(wanted)
        try:
            read = await partitions.open(
                new, lambda read: self._link.send(m.Opened(list(wanted & read), failing=list(wanted - read)))
            )
            self._link.send(m.Opened(list(wanted & read), list(wanted - read)))
        finally:
            self._openings = [each for each in self._openings if each is not wanted]
        self._link.send(m.Beat(list(partitions.suspects().items())))

    async def _adopt(self, models: Models, message: m.Adopt) -> None:
        error = ""
        try:
            await models.adopt(message.models)
        except PredictError as failure:
            error = str(failure)
        self._link.send(m.Adopted(message.id, orders_of(models.describe()), error))

    async def _release(self, partitions: Partitions, going: frozenset[Partition]) -> None:
        for wanted in self._openings:
            wanted.difference_update(going)
        unanswered = await partitions.release(going)
        self._link.send(m.Released(list(going), unanswered))
