"""The link between a supervisor and a worker, over real socket pairs."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import pytest

from streamer.errors import PredictError
from streamer.rollout.orders import ModelOrders, Shared
from streamer.supervision import messages as m
from streamer.supervision.link import Link
from streamer.supervision.worker_link import WorkerLink
from streamer.tasks import TaskOwner
from streamer.types import Partition
from tests.streamer.supervision.machine import topic

A, B = ("t", 0), ("t", 1)


@dataclass
class _Pair:
    """A supervisor's link, and the socket of its worker."""

    link: Link[m.FromWorker]
    theirs: socket.socket

    async def all(self) -> list[m.FromWorker]:
        return [message async for message in self.link.messages()]


@pytest.fixture
async def pair() -> AsyncIterator[_Pair]:
    ours, theirs = socket.socketpair()
    with theirs:
        link = await Link.over(ours, m.FROM_WORKER)
        yield _Pair(link, theirs)
        link.close()


async def test_messages_arrive_in_order_and_the_last_one_before_death_arrives(pair: _Pair) -> None:
    worker = await Link.over(pair.theirs.dup(), m.TO_WORKER)
    sent = [m.Ready(), m.Opened([A], [B]), m.Beat([(A, 2)]), m.Commit(1, [("t", 0, 5, "mark")]), m.Released([A], 3)]
    for message in sent:
        worker.send(message)
    worker.close()
    pair.theirs.close()
    assert await pair.all() == sent


async def test_a_line_that_was_cut_by_death_is_dropped(pair: _Pair) -> None:
    pair.theirs.sendall(b'{"type":"ready"}\n{"type":"opened","partit')
    pair.theirs.close()
    assert await pair.all() == [m.Ready()]


async def test_an_unknown_message_is_an_error(pair: _Pair) -> None:
    pair.theirs.sendall(b'{"type":"from the future"}\n')
    with pytest.raises(msgspec.ValidationError):
        await pair.all()


async def test_death_with_unread_commands_loses_no_message(pair: _Pair) -> None:
    pair.link.send(m.Committed(1, "stored"))
    pair.theirs.sendall(b'{"type":"ready"}\n{"type":"beat"}\n')
    pair.theirs.close()
    assert await pair.all() == [m.Ready(), m.Beat()]


async def test_a_command_to_a_process_that_has_just_died_loses_none_of_its_messages(pair: _Pair) -> None:
    pair.theirs.sendall(b'{"type":"ready"}\n{"type":"beat"}\n')
    pair.theirs.close()
    pair.link.send(m.Committed(1, "stored"))
    pair.link.send(m.Committed(2, "stored"))
    assert await pair.all() == [m.Ready(), m.Beat()]


async def test_commands_that_do_not_fit_into_the_socket_arrive_later_in_order(pair: _Pair) -> None:
    sent = [m.Committed(number, "failed", "x" * 1000) for number in range(800)]
    for message in sent:
        pair.link.send(message)
    worker = await Link.over(pair.theirs.dup(), m.TO_WORKER)
    messages = worker.messages()
    assert [await anext(messages) for _ in sent] == sent
    worker.close()


async def test_a_process_that_does_not_read_counts_as_ended(pair: _Pair) -> None:
    message = m.Assign([("a long topic" * 100, number) for number in range(100)])
    for _ in range(100):
        pair.link.send(message)
    async with asyncio.timeout(10):
        assert await pair.all() == []
    pair.link.send(message)


# The worker's end.


@dataclass
class _Partitions:
    """Partitions whose opening waits for `may_open`, and which can be lost. `failing` cannot be opened until then."""

    may_open: asyncio.Event = field(default_factory=asyncio.Event)
    lost: frozenset[Partition] = frozenset()
    failing: frozenset[Partition] = frozenset()

    async def open(
        self, partitions: frozenset[Partition], report: Callable[[frozenset[Partition]], None]
    ) -> frozenset[Partition]:
        if self.failing:
            report(partitions - self.failing)
        await self.may_open.wait()
        return partitions - self.lost

    async def release(self, partitions: frozenset[Partition]) -> int:
        return len(partitions)

    def suspects(self) -> Mapping[Partition, int]:
        return {A: 2}


@dataclass
class _Models:
    """Models that have no order; `error`: they cannot take orders over."""

    error: PredictError | None = None
    orders: list[ModelOrders] = field(default_factory=lambda: [ModelOrders("ctr", 5)])

    def describe(self) -> list[dict[str, object]]:
        return [{**msgspec.to_builtins(each), "previous": 4} for each in self.orders]

    async def adopt(self, orders: Sequence[ModelOrders]) -> None:
        if self.error is not None:
            raise self.error
        self.orders = list(orders)


class _Worker:
    """A running `WorkerLink`, and its supervisor's end."""

    def __init__(self, link: WorkerLink, supervisor: Link[m.FromWorker], tasks: TaskOwner) -> None:
        self.link = link
        self.supervisor = supervisor
        self.partitions = _Partitions()
        self.models = _Models()
        self.running = tasks.spawn(link.run(self.partitions, self.models, tasks.spawn), "link")
        self._messages = supervisor.messages()

    async def next(self) -> m.FromWorker:
        """The next message that is no sign of life."""
        async for message in self._messages:
            if not isinstance(message, m.Beat | m.Ready):
                return message
        raise AssertionError("the link is closed")

    async def commit(self, answer: m.Committed | None) -> bool:
        """The outcome of a commit that the supervisor answers so; None: it closes the link."""
        waiting = asyncio.create_task(self.link.commit({A: (5, "mark")}))
        assert await self.next() == m.Commit(1, [("t", 0, 5, "mark")])
        if answer is None:
            self.supervisor.close()
        else:
            self.supervisor.send(answer)
        return await waiting


@pytest.fixture
async def worker() -> AsyncIterator[_Worker]:
    ours, theirs = socket.socketpair()
    tasks = TaskOwner()
    async with asyncio.timeout(10), tasks.running():
        supervisor = await Link.over(ours, m.FROM_WORKER)
        yield _Worker(await WorkerLink.over(theirs.detach()), supervisor, tasks)
        supervisor.close()
        tasks.cancel()


async def test_the_worker_reports_that_it_is_ready_and_then_signs_of_life(worker: _Worker) -> None:
    messages = worker.supervisor.messages()
    assert [await anext(messages), await anext(messages)] == [m.Ready(), m.Beat([(A, 2)], [ModelOrders("ctr", 5)])]


async def test_a_commit_that_is_stored(worker: _Worker) -> None:
    assert await worker.commit(m.Committed(1, "stored"))


async def test_a_commit_of_partitions_that_the_group_has_moved(worker: _Worker) -> None:
    assert not await worker.commit(m.Committed(1, "lost"))


async def test_a_commit_that_fails(worker: _Worker) -> None:
    with pytest.raises(ConnectionError, match="no broker"):
        await worker.commit(m.Committed(1, "failed", "no broker"))


async def test_a_commit_whose_supervisor_ends(worker: _Worker) -> None:
    with pytest.raises(ConnectionError, match="the supervisor has ended"):
        await worker.commit(None)
    await worker.running


async def test_a_commit_after_the_supervisor_has_ended(worker: _Worker) -> None:
    worker.supervisor.close()
    await worker.running
    with pytest.raises(ConnectionError, match="the supervisor has ended"):
        await worker.link.commit({A: (5, "mark")})


async def test_a_late_answer_to_a_cancelled_commit_is_ignored(worker: _Worker) -> None:
    first = asyncio.create_task(worker.link.commit({A: (5, "mark")}))
    await worker.next()
    first.cancel()
    second = asyncio.create_task(worker.link.commit({A: (6, "mark")}))
    await worker.next()
    worker.supervisor.send(m.Committed(1, "lost"))
    worker.supervisor.send(m.Committed(2, "stored"))
    assert await second
    assert first.cancelled()


async def test_a_release_does_not_wait_for_the_opening_of_another_partition(worker: _Worker) -> None:
    worker.supervisor.send(m.Assign([A]))
    worker.supervisor.send(m.Release([B]))
    assert await worker.next() == m.Released([B], 1)
    worker.partitions.may_open.set()
    assert await worker.next() == m.Opened([A])


async def test_the_worker_names_the_partitions_that_it_could_not_open(worker: _Worker) -> None:
    worker.partitions.lost = topic(1)
    worker.partitions.may_open.set()
    worker.supervisor.send(m.Assign([A, B]))
    assert await worker.next() == m.Opened([A], [B])


async def test_the_worker_names_the_partitions_that_it_tries_again_to_open(worker: _Worker) -> None:
    worker.partitions.failing = topic(1)
    worker.supervisor.send(m.Assign([A, B]))
    assert await worker.next() == m.Opened([A], failing=[B])
    worker.partitions.may_open.set()
    last = await worker.next()
    assert isinstance(last, m.Opened)
    assert set(last.partitions) == {A, B}


async def test_an_opening_says_nothing_of_a_partition_that_was_released_meanwhile(worker: _Worker) -> None:
    """The partition may have come back: `lost` of its first opening would end the second one."""
    worker.partitions.failing = worker.partitions.lost = topic(1)
    worker.supervisor.send(m.Assign([A, B]))
    assert await worker.next() == m.Opened([A], failing=[B])
    worker.supervisor.send(m.Release([B]))
    assert await worker.next() == m.Released([B], 1)
    worker.partitions.may_open.set()
    assert await worker.next() == m.Opened([A])


async def test_the_worker_takes_orders_over_and_reports_those_that_it_has(worker: _Worker) -> None:
    orders = [ModelOrders("ctr", 4, 4, Shared("new", 0.1), Shared(3, 0.5), frozenset({5}))]
    worker.supervisor.send(m.Adopt(1, orders))
    assert await worker.next() == m.Adopted(1, orders)
    worker.models.error = PredictError("UNAVAILABLE", "no server")
    worker.supervisor.send(m.Adopt(2, []))
    assert await worker.next() == m.Adopted(2, orders, "UNAVAILABLE: no server")
