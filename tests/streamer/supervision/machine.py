"""A machine on a virtual clock: a `Fleet`, simulated worker processes, and the group's answers."""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from math import inf

from streamer.settings.deployment import SupervisorSettings
from streamer.supervision import events as e
from streamer.supervision.fleet import Fleet
from streamer.supervision.worker import Worker
from streamer.types import Partition

RELEASE_S = 20.0


def topic(*numbers: int) -> frozenset[Partition]:
    """Partitions of one topic."""
    return frozenset(("t", number) for number in numbers)


@dataclass(slots=True)
class Process:
    """A simulated process. `None` as a duration: it never does that."""

    number: int
    start_s: float | None
    open_s: float | None = 0.01
    release_s: float | None = 0.1
    drain_s: float | None = 0.1
    hung: bool = False
    holds: set[Partition] = field(default_factory=set)
    reads: set[Partition] = field(default_factory=set)


class Machine:
    """Executes the actions of a fleet, and checks its invariants after each step.

    `start_s`, `open_s`, `release_s` and `drain_s` hold for the processes that start from then on.
    """

    def __init__(self, partitions: Iterable[int] = range(6), **settings: object) -> None:
        self.settings = SupervisorSettings.model_validate({"workers": 2, "standby": 1, **settings})
        self.fleet = Fleet(self.settings, RELEASE_S)
        self.now = 100.0
        self.start_s: float | None = 1.0
        self.open_s: float | None = 0.01
        self.release_s: float | None = 0.1
        self.drain_s: float | None = 0.1
        self.group = topic(*partitions)
        self.processes: dict[int, Process] = {}
        self.actions: list[e.Action] = []
        # Partitions with a record that kills its worker, and the deaths at their position.
        self.poisoned: set[Partition] = set()
        self.deaths: dict[Partition, int] = {}
        # Partitions that cannot be opened now. A process that reads one already keeps it.
        self.leaderless: frozenset[Partition] = frozenset()
        self.is_revoking = False
        self._membership = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._due = inf
        self.handle(e.Tick())

    def __repr__(self) -> str:
        return f"<Machine at {self.now:.2f}: {self.fleet.workers}>"

    # What happens.

    def run(self, seconds: float) -> "Machine":
        """Lets time pass."""
        until = self.now + seconds
        while True:
            due = self._due
            first = self._queue[0][0] if self._queue else inf
            if min(due, first) > until:
                self.now = until
                return self
            if first <= due:
                self.now, _, work = heapq.heappop(self._queue)
                work()
            else:
                self.now = due
                self.handle(e.Tick())

    def run_until(self, done: Callable[[], bool], within_s: float = 400.0) -> "Machine":
        """Lets time pass until `done`, which must be within some time."""
        end = self.now + within_s
        while not done():
            assert self.now < end, f"not done within {within_s} s: {self}"
            self.run(0.25)
        return self

    def pause(self, seconds: float) -> None:
        """The supervisor does not run. Afterwards its timer comes first, then what the workers have sent."""
        self.now += seconds
        self.handle(e.Tick())

    def handle(self, event: e.Event) -> list[e.Action]:
        """Passes an event to the fleet."""
        actions = self.fleet.step(event, self.now)
        self._due = self.fleet.next_due(self.now)
        assert self._due > self.now, "busy loop"
        self.actions += actions
        for action in actions:
            self._perform(action)
        self._check()
        if self.is_revoking and not self.fleet.held:
            self.is_revoking = False
            self._assign_later()
        return actions

    def rebalance(self, partitions: frozenset[Partition]) -> None:
        """The group moves partitions."""
        self.group = partitions
        if self.fleet.joined:
            self._membership += 1
            self.is_revoking = True
            self.handle(e.Revoked())

    def die(self, number: int, status: int = -11) -> None:
        """A process dies."""
        process = self.processes.pop(number)
        for partition in process.reads:
            self.deaths[partition] = self.deaths.get(partition, 0) + 1 if partition in self.poisoned else 0
        self.handle(e.Ended(number, status))

    # What the tests look at.

    @property
    def placing(self) -> dict[int, set[Partition]]:
        """The partitions that each process reads."""
        return {n: set(p.reads) for n, p in sorted(self.processes.items()) if p.reads}

    def numbers(self, phase: str) -> list[int]:
        """The workers in a phase."""
        return sorted(n for n, worker in self.fleet.workers.items() if worker.phase == phase)

    def reader(self, partition: Partition) -> int:
        """The process that reads a partition."""
        (number,) = (n for n, reads in self.placing.items() if partition in reads)
        return number

    def since(self, *kinds: type) -> list[e.Action]:
        """The actions of these kinds since the last call."""
        found = [action for action in self.actions if not kinds or isinstance(action, kinds)]
        self.actions.clear()
        return found

    @property
    def is_quiet(self) -> bool:
        """Whether everything is as it should be without faults, except partitions that cannot be opened."""
        fleet, settings = self.fleet, self.settings
        shares = [len(worker.held) for worker in fleet.in_phase("active")]
        return (
            fleet.is_complete
            and fleet.assigned == self.group
            and fleet.held == self.group
            and fleet.unread <= self.leaderless
            and set().union(*self.placing.values()) == self.group - fleet.unread
            and all(not worker.is_moving for worker in fleet.workers.values())
            and len(shares) == settings.active
            and max(shares) - min(shares) <= 1
            and len(fleet.in_phase("standby")) == settings.standby
            and not any(worker.held for worker in fleet.in_phase("standby"))
            and not fleet.is_reloading
            and not fleet.missing
        )

    # How the processes and the group answer.

    def later(self, seconds: float | None, number: int, work: Callable[[Process], None]) -> None:
        """Does something in a process, if it still runs then and does not hang."""
        process = self.processes[number]

        def do() -> None:
            if self.processes.get(number) is process and not process.hung:
                work(process)

        if seconds is not None:
            heapq.heappush(self._queue, (self.now + seconds, next(self._order), do))

    def _perform(self, action: e.Action) -> None:
        match action:
            case e.Start(number):
                assert number not in self.processes
                self.processes[number] = Process(number, self.start_s, self.open_s, self.release_s, self.drain_s)
                self.later(self.start_s, number, self.be_ready)
            case e.Assign(number, partitions):
                process = self.processes[number]
                others = [p.holds for p in self.processes.values() if p is not process]
                assert partitions.isdisjoint(set().union(*others)), "two processes hold a partition"
                assert partitions <= self.fleet.assigned
                assert self.fleet.joined
                assert not self.fleet.revoking
                process.holds |= partitions
                self.later(process.open_s, number, lambda p: self._opened(p, partitions))
            case e.Release(number, partitions):
                worker = self.fleet.workers[number]
                if worker.retired and not self.fleet.stopping and not self.fleet.revoking:
                    assert any(not self._is_old(w) and w.was_ready for w in self.fleet.workers.values())
                self.later(self.processes[number].release_s, number, lambda p: self._released(p, partitions))
            case e.Terminate(number):
                assert not self.processes[number].holds
                self.later(self.processes[number].drain_s, number, lambda p: self._end(p, 0))
            case e.Kill(number):
                self.processes[number].hung = False
                self.later(0.01, number, lambda p: self.die(p.number, -9))
            case e.Join():
                self._membership += 1
                self._assign_later()
            case e.Leave():
                assert not any(process.holds for process in self.processes.values())
                self._membership += 1
                self.is_revoking = False

    def _is_old(self, worker: Worker) -> bool:
        return worker.generation < self.fleet.generation

    def _assign_later(self) -> None:
        membership = self._membership

        def assign() -> None:
            if membership == self._membership:
                self.handle(e.Assigned(self.group))

        heapq.heappush(self._queue, (self.now + 0.05, next(self._order), assign))

    def be_ready(self, process: Process) -> None:
        self.handle(e.Ready(process.number))
        self.beat(process)

    def beat(self, process: Process) -> None:
        self.handle(e.Beat(process.number, self._suspects(process)))
        if self.processes.get(process.number) is process:
            self.later(0.5, process.number, self.beat)

    def _suspects(self, process: Process) -> tuple[tuple[Partition, int], ...]:
        return tuple((p, self.deaths[p]) for p in sorted(process.reads) if self.deaths.get(p))

    def _opened(self, process: Process, partitions: frozenset[Partition]) -> None:
        still = partitions & process.holds
        failing = still & self.leaderless - process.reads
        process.reads |= still - failing
        if failing:
            self.later(1.0, process.number, lambda p: self._opened(p, failing))
        self.handle(e.Opened(process.number, still - failing, failing=failing))
        if self.processes.get(process.number) is process:
            self.handle(e.Beat(process.number, self._suspects(process)))

    def _released(self, process: Process, partitions: frozenset[Partition]) -> None:
        process.reads -= partitions
        process.holds -= partitions
        self.handle(e.Released(process.number, partitions))

    def _end(self, process: Process, status: int) -> None:
        del self.processes[process.number]
        self.handle(e.Ended(process.number, status))

    def _check(self) -> None:
        fleet = self.fleet
        for number, worker in fleet.workers.items():
            assert self.processes[number].holds <= worker.held
            assert worker.failing <= worker.opening <= worker.held
            assert worker.releasing.keys() <= worker.held
            kept = worker.held - worker.releasing.keys()
            if not worker.killed and not fleet.stopping:
                assert kept.isdisjoint(fleet.suspects) or kept <= fleet.suspects, "a suspect shares a process"
        assert fleet.workers.keys() == self.processes.keys()
        assert len(fleet.workers) <= self.settings.processes + 1
        places = [worker.place for worker in fleet.in_phase("active")]
        assert len(set(places)) == len(places)
