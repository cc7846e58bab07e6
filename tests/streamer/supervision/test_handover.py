"""The handover of orders to processes that lack them, on the virtual clock."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from streamer.rollout.orders import ModelOrders
from streamer.settings.deployment import SupervisorSettings
from streamer.supervision import messages as m
from streamer.supervision.fleet import Fleet
from streamer.supervision.handover import Handover
from streamer.supervision.worker import Phase, Worker
from streamer.testing.virtual_loop import virtual

FRESH, PINNED = ModelOrders("ctr", 5), ModelOrders("ctr", 4, 4)


@dataclass
class _Process:
    """A process that answers after `answer_s`.

    `error`: it cannot take orders over; `silent`: it does not answer; `differs`: it takes a part of them over.
    """

    number: int
    machine: "_Machine"
    has: ModelOrders = FRESH
    error: str = ""
    silent: bool = False
    differs: bool = False
    answer_s: float = 0.01
    taken: int = 0
    is_ready: bool = False

    def send(self, message: m.ToWorker) -> None:
        assert isinstance(message, m.Adopt)
        if not self.silent:
            asyncio.get_running_loop().call_later(self.answer_s, self._answer, message)

    def _answer(self, message: m.Adopt) -> None:
        self.taken += 1
        if not self.error and not self.differs:
            (self.has,) = message.models
        self.machine.handover.answered(self.number, m.Adopted(message.id, [self.has], self.error))

    def ready(self) -> None:
        self.is_ready = True
        self.machine.fleet.workers[self.number].phase = "standby"

    def beat(self) -> None:
        self.machine.handover.reported(self.number, [self.has])


@dataclass
class _Machine:
    fleet: Fleet = field(default_factory=lambda: Fleet(SupervisorSettings(), 10.0))
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    processes: dict[int, _Process] = field(default_factory=dict)
    handover: Handover = field(init=False)

    def __post_init__(self) -> None:
        self.handover = Handover(self.fleet, self._spawn, structlog.get_logger())

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks.add(task)
        return task

    def start(self, number: int, **process: Any) -> _Process:
        found = self.processes[number] = _Process(number, self, **process)
        self.fleet.workers[number] = Worker(number, 0)
        self.handover.prepared(number, found.send, found.ready)
        return found

    def become(self, number: int, phase: Phase) -> None:
        self.fleet.workers[number].phase = phase

    def end(self, number: int) -> None:
        del self.fleet.workers[number]
        self.handover.ended(number)

    async def command(self, has: ModelOrders, *accepting: int) -> None:
        """An operator's command that only these workers accept."""
        async with self.handover.turn:
            for number in accepting:
                self.processes[number].has = has
            text = msgspec.json.encode([has]).decode()
            others = [number for number in self.processes if number not in accepting]
            self.handover.executed(dict.fromkeys(accepting, text), others)


def on_machine(test: Callable[[_Machine], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test with an active worker 0, on the virtual clock."""

    async def run() -> None:
        machine = _Machine()
        machine.start(0)
        assert machine.processes[0].is_ready, "the first process waits for nothing"
        machine.become(0, "active")
        machine.processes[0].beat()
        await test(machine)
        for task in machine.tasks:
            if task.done() and not task.cancelled():
                task.result()

    run.__name__ = test.__name__
    return virtual(run)


@on_machine
async def test_a_new_process_has_the_orders_before_it_is_ready(machine: _Machine) -> None:
    await machine.command(PINNED, 0)
    machine.end(0)
    new = machine.start(1)
    assert not new.is_ready
    await asyncio.sleep(0.02)
    assert (new.is_ready, new.has) == (True, PINNED)


@on_machine
async def test_a_command_waits_for_a_handover_and_none_is_lost(machine: _Machine) -> None:
    new = machine.start(1)
    await asyncio.sleep(0)
    await machine.command(PINNED, 0, 1)
    assert new.taken == 1, "it waited"
    for process in machine.processes.values():
        process.beat()
    machine.end(0)
    machine.end(1)
    later = machine.start(2)
    await asyncio.sleep(0.02)
    assert later.has == PINNED


@on_machine
async def test_a_standby_follows_the_rollback_of_a_guard_and_an_active_worker_does_not(machine: _Machine) -> None:
    other, standby = machine.start(1), machine.start(2)
    await asyncio.sleep(0.1)
    machine.become(1, "active")
    machine.processes[0].has = ModelOrders("ctr", 4, rolled_back=frozenset({5}))
    for _ in range(2):
        for process in machine.processes.values():
            process.beat()
        await asyncio.sleep(0.1)
    assert (standby.has, standby.taken) == (machine.processes[0].has, 2)
    assert (other.has, other.taken) == (FRESH, 1)


@on_machine
async def test_an_active_worker_gets_the_order_that_it_rejected(machine: _Machine) -> None:
    """A new process rejects a rollback, because no version has served before in it."""
    other = machine.start(1)
    await asyncio.sleep(0.1)
    machine.become(1, "active")
    other.beat()
    rolled_back = ModelOrders("ctr", 4, rolled_back=frozenset({5}))
    await machine.command(rolled_back, 0)
    other.beat()
    await asyncio.sleep(0.1)
    assert other.has == rolled_back


@on_machine
async def test_a_process_that_cannot_take_orders_over_waits_while_another_one_is_ready(machine: _Machine) -> None:
    await machine.command(PINNED, 0)
    with structlog.testing.capture_logs() as lines:
        new = machine.start(1, error="UNAVAILABLE: no server")
        await asyncio.sleep(100)
        assert machine.fleet.in_phase("starting") == [machine.fleet.workers[1]], "worker 0 works without it"
        (line,) = [line for line in lines if line["log_level"] == "error"]
        assert (line["worker"], line["error"]) == (1, "UNAVAILABLE: no server")
        machine.end(0)
        await asyncio.sleep(1.1)
    assert new.is_ready, "someone has to read the partitions"
    machine.become(1, "active")
    new.error = ""
    await asyncio.sleep(11)
    assert new.has == PINNED, "it gets them as soon as it can"


@on_machine
async def test_a_silent_process_blocks_commands_for_a_bounded_time(machine: _Machine) -> None:
    new = machine.start(1, silent=True)
    await asyncio.sleep(0)
    async with asyncio.timeout(31):
        await machine.command(PINNED, 0)
    new.silent = False
    await asyncio.sleep(2)
    assert (new.is_ready, new.has) == (True, PINNED)


@on_machine
async def test_the_end_of_a_process_ends_its_handover(machine: _Machine) -> None:
    new = machine.start(1, silent=True)
    await asyncio.sleep(0)
    machine.end(1)
    async with asyncio.timeout(0.1):
        await machine.command(PINNED, 0)
    again = machine.start(1)
    await asyncio.sleep(0.1)
    assert (new.is_ready, again.has) == (False, PINNED)


@on_machine
async def test_a_standby_that_stays_different_is_told_once(machine: _Machine) -> None:
    """The shadow version may be gone, for example."""
    standby = machine.start(1)
    await asyncio.sleep(0.1)
    standby.differs = True
    await machine.command(PINNED, 0)
    for _ in range(10):
        standby.beat()
        await asyncio.sleep(1)
    assert standby.taken == 2


@on_machine
async def test_orders_that_a_process_takes_over_late_are_no_new_orders(machine: _Machine) -> None:
    await machine.command(PINNED, 0)
    new = machine.start(1, answer_s=31.0)
    await asyncio.sleep(30)
    await machine.command(FRESH, 0)
    await asyncio.sleep(1.01)
    assert new.has == PINNED
    new.beat()
    new.answer_s = 0.01
    await asyncio.sleep(35)
    assert (new.is_ready, new.has, machine.processes[0].has) == (True, FRESH, FRESH)
