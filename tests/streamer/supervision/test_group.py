"""The supervisor's membership: what the group's members report, late or wrong."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import structlog

from streamer.supervision import messages as m
from streamer.supervision.group import Group
from streamer.testing.virtual_loop import virtual
from streamer.types import Partition
from tests.streamer.supervision.machine import topic

COMMIT = m.Commit(1, [("t", 0, 5, "mark")])


@dataclass(eq=False)
class Member:
    """A member whose calls end as the test says."""

    assigned: Callable[[frozenset[Partition]], None]
    revoke: Callable[[], Awaitable[None]]
    joining: asyncio.Event = field(default_factory=asyncio.Event)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    failure: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    commit_error: Exception | None = None
    leave_error: Exception | None = None

    async def join(self) -> None:
        try:
            await self.joining.wait()
        except asyncio.CancelledError:
            # As aiokafka, it may end later than it is told to.
            await asyncio.sleep(0.1)
            raise

    async def watch(self) -> None:
        await self.failure

    async def commit(self, offsets: Mapping[Partition, tuple[int, str]]) -> None:
        if self.commit_error is not None:
            raise self.commit_error

    async def leave(self) -> None:
        await self.leaving.wait()
        if self.leave_error is not None:
            raise self.leave_error


@dataclass
class Reported:
    """A group, its members in their order, and what it has reported."""

    members: list[Member] = field(default_factory=list)
    assignments: list[frozenset[Partition]] = field(default_factory=list)
    revoked: int = 0

    def __post_init__(self) -> None:
        self.group = Group(self._new, self.assignments.append, self._revoke, structlog.get_logger())

    def _new(self, assigned: Callable[[frozenset[Partition]], None], revoke: Callable[[], Awaitable[None]]) -> Member:
        self.members.append(Member(assigned, revoke))
        return self.members[-1]

    async def _revoke(self) -> None:
        self.revoked += 1

    async def outcome(self) -> str:
        return (await self.group.commit(COMMIT)).outcome


@virtual
async def test_a_member_that_leaves_late_does_not_disturb_its_successor() -> None:
    found = Reported()
    first = asyncio.create_task(found.group.run())
    await asyncio.sleep(0)
    first.cancel()
    second = asyncio.create_task(found.group.run())
    await asyncio.sleep(1.0)
    old, new = found.members
    new.joining.set()
    new.assigned(topic(1))
    old.assigned(topic(0))
    await old.revoke()
    assert (found.assignments, found.revoked) == ([topic(1)], 0)
    assert await found.outcome() == "stored", "by the new member"
    second.cancel()
    for member in found.members:
        member.leaving.set()
    await asyncio.wait([first, second])


@virtual
async def test_an_unexpected_error_costs_the_membership_and_not_the_supervisor() -> None:
    found = Reported()
    running = asyncio.create_task(found.group.run())
    await asyncio.sleep(0)
    (member,) = found.members
    member.leaving.set()
    member.leave_error = RuntimeError("a defect of the client")
    member.joining.set()
    member.failure.set_exception(RuntimeError("a defect of the client"))
    await asyncio.sleep(2.0)
    assert found.revoked == 1
    assert len(found.members) == 2, "it joins again"
    running.cancel()
    found.members[1].leaving.set()
    await asyncio.wait([running])
    assert running.cancelled()


@virtual
async def test_an_unexpected_error_of_a_commit_is_the_workers_answer() -> None:
    found = Reported()
    running = asyncio.create_task(found.group.run())
    await asyncio.sleep(0)
    found.members[0].commit_error = ValueError("no offsets")
    found.members[0].leaving.set()
    assert await found.outcome() == "failed"
    running.cancel()
    await asyncio.wait([running])
