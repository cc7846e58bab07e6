"""A fleet of cells: workers with the model servers that only they call; faults; one run."""

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from simpy import Environment, Event

from benchmarks.simulation.cores import Cores
from benchmarks.simulation.costs import Costs
from benchmarks.simulation.outcome import Outcome, joined, outcome_of
from benchmarks.simulation.partitions import owners, partition_shares
from benchmarks.simulation.request import Request
from benchmarks.simulation.server import ModelServer
from benchmarks.simulation.worker import Worker
from sandbox.world.population import F64
from streamer.deadline import Deadline
from streamer.settings.sections import PredictorSettings, RolloutSettings
from streamer.supervision.sharing import share

Kind = Literal["kill_server", "start_server", "kill_worker", "lose_cell", "switch", "upgrade"]
TAKEOVER_S = 0.015
"""From a worker's death, or the end of its drain, to the first read of its successor on the same machine."""
SESSION_TIMEOUT_S = 10.0
"""After it the partitions of a lost machine go to the others."""
_RAMP_STEP_S, _DRAIN_STEP_S = 0.1, 0.001


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at a time of the run: to a server, worker or cell by number, or to all."""

    at: float
    kind: Kind
    number: int = 0


@dataclass(frozen=True, slots=True)
class Setup:
    """A fleet and its traffic.

    Attributes:
        rate: requests per second of the whole fleet, a Poisson process.
        cell_workers, cell_servers, server_cores: workers, model servers, and cores of each server in a cell. A cell is
            one machine of the consumer group.
        threads: calls that a server accepts at the same time; None: 4 for each core, as TensorFlow Serving.
        exponent: Zipf exponent of the users' requests; 0: equal. partitions: of the topic.
        standby: whether each cell has one more process, which takes the place of a dead worker.
    """

    rate: float
    cells: int = 1
    cell_workers: int = 10
    cell_servers: int = 3
    server_cores: int = 4
    threads: int | None = None
    partitions: int = 40
    users: int = 1_000_000
    exponent: float = 0.0
    candidates: int = 300
    budget_ms: float = 30.0
    seconds: float = 3.0
    standby: bool = True
    seed: int = 1

    @property
    def workers(self) -> int:
        """Workers of the fleet."""
        return self.cells * self.cell_workers


def simulate(setup: Setup, costs: Costs, faults: Sequence[Fault] = ()) -> Outcome:
    """Runs a fleet. Without faults each cell runs alone: cells share nothing but the topic."""
    shares = partition_shares(setup.partitions, setup.users, setup.exponent, setup.seed)
    owner = np.array(owners(setup.partitions, setup.workers, setup.cell_workers))
    rates = setup.rate * shares
    if faults or setup.cells == 1:
        return _Fleet(setup, costs, rates, owner.tolist()).run(faults)
    outcomes = []
    for cell in range(setup.cells):
        own = owner // setup.cell_workers == cell
        one = replace(setup, cells=1, seed=setup.seed + cell)
        outcomes.append(_Fleet(one, costs, rates[own], (owner[own] % setup.cell_workers).tolist()).run(()))
    return joined(outcomes)


class _Fleet:
    """One run."""

    def __init__(self, setup: Setup, costs: Costs, rates: F64, owner: list[int]) -> None:
        """`rates`: requests per second of each partition, which the worker in `owner` reads."""
        self._setup, self._costs, self._rates = setup, costs, rates
        self._env = Environment()
        self._random = random.Random(setup.seed)
        threads = setup.threads or 4 * setup.server_cores
        self._servers = [
            ModelServer(self._env, Cores(self._env, setup.server_cores), threads, costs, setup.seed * 1000 + number)
            for number in range(setup.cells * setup.cell_servers)
        ]
        self._workers = [self._worker(number) for number in range(setup.workers)]
        # The worker of each partition; None while nobody reads it. Its requests wait then.
        self._owner: list[int | None] = [*owner]
        self._waiting: dict[int, list[Request]] = {}
        self._requests: list[Request] = []
        self._out_s = costs.other.out_ms / 1e3
        self._used = [0.0] * setup.workers

    def run(self, faults: Sequence[Fault]) -> Outcome:
        """Sends traffic for the seconds of the setup, and waits until every request has its answer.

        Raises:
            RuntimeError: a request was not answered; the model has a defect, or no worker is left.
        """
        env, setup = self._env, self._setup
        env.process(self._traffic())
        for fault in faults:
            env.process(self._happen(fault))
        env.run(until=setup.seconds)
        used = [*(self._used_s(number) / setup.seconds for number in range(setup.workers))]
        servers = [server.cores.used_s / server.cores.count / setup.seconds for server in self._servers]
        env.run(until=setup.seconds + SESSION_TIMEOUT_S + 2 * setup.budget_ms / 1e3 + 5.0)
        lost = sum(request.status is None for request in self._requests)
        if lost:
            raise RuntimeError(f"{lost} of {len(self._requests)} requests have no answer")
        calls, rejected = (sum(getattr(server, name) for server in self._servers) for name in ("calls", "rejected"))
        return outcome_of(self._requests, used, servers, calls, rejected)

    def _worker(self, number: int) -> Worker:
        setup = self._setup
        cell = number // setup.cell_workers
        servers = self._servers[cell * setup.cell_servers : (cell + 1) * setup.cell_servers]
        return Worker(
            self._env,
            self._costs,
            setup.candidates,
            {f"server-{i}:8500": server for i, server in enumerate(servers)},
            answer=self._answered,
            chance=self._random.random,
        )

    def _used_s(self, number: int) -> float:
        return self._used[number] + self._workers[number].thread.used_s

    def _traffic(self) -> Generator[Event, Any, None]:
        setup, rng = self._setup, np.random.default_rng(setup_seed(self._setup))
        rate = float(self._rates.sum())
        count = int(rng.poisson(rate * setup.seconds))
        times = np.sort(rng.random(count)) * setup.seconds
        partitions = rng.choice(len(self._rates), count, p=self._rates / rate)
        in_s, budget_ms = self._costs.other.in_ms / 1e3, setup.budget_ms
        for number, (at, partition, of_user) in enumerate(
            zip(times.tolist(), partitions.tolist(), rng.random(count).tolist(), strict=True)
        ):
            if at > self._env.now:
                yield self._env.timeout(at + in_s - self._env.now)
            request = Request(number, partition, at, Deadline.after(at, budget_ms), of_user)
            self._requests.append(request)
            self._deliver(request)

    def _deliver(self, request: Request) -> None:
        owner = self._owner[request.partition]
        if owner is None:
            self._waiting.setdefault(request.partition, []).append(request)
        else:
            self._workers[owner].deliver(request)

    def _answered(self, request: Request) -> None:
        if request.answered == request.answered:  # not NaN
            raise RuntimeError(f"request {request.number} was answered twice")
        request.answered = self._env.now + self._out_s

    def _happen(self, fault: Fault) -> Generator[Event, Any, None]:
        yield self._env.timeout(fault.at)
        number, setup = fault.number, self._setup
        if fault.kind == "kill_server":
            self._servers[number].kill()
        elif fault.kind == "start_server":
            self._servers[number].start()
        elif fault.kind == "kill_worker":
            left = self._stop(number)
            yield self._env.timeout(TAKEOVER_S)
            if setup.standby:
                self._open(left, {number: left.keys()})
            else:
                self._open(left, self._shared(left, [n for n in self._cell_of(number) if n != number]))
                yield self._env.timeout(self._costs.scorer.start_s)
                self._replace(number)
        elif fault.kind == "lose_cell":
            workers = range(number * setup.cell_workers, (number + 1) * setup.cell_workers)
            for server in self._servers[number * setup.cell_servers : (number + 1) * setup.cell_servers]:
                server.kill()
            left = {partition: held for worker in workers for partition, held in self._stop(worker).items()}
            yield self._env.timeout(SESSION_TIMEOUT_S)
            self._open(left, self._shared(left, [n for n in range(setup.workers) if n not in workers]))
        elif fault.kind == "upgrade":
            yield from self._upgrade()
        else:
            yield from self._switch()

    def _stop(self, number: int) -> dict[int, list[Request]]:
        """Kills a worker; returns its partitions with the requests that have no answer yet."""
        left: dict[int, list[Request]] = {p: [] for p, owner in enumerate(self._owner) if owner == number}
        for request in self._workers[number].kill():
            left[request.partition].append(request)
        for partition in left:
            self._owner[partition] = None
        self._replace(number)
        return left

    def _replace(self, number: int) -> None:
        """Puts a new worker in the place of a dead one."""
        self._used[number] += self._workers[number].thread.used_s
        self._workers[number] = self._worker(number)
        self._workers[number].second_share = self._workers[number - 1].second_share

    def _shared(self, partitions: dict[int, list[Request]], workers: Sequence[int]) -> dict[int, list[int]]:
        loads = {worker: self._owner.count(worker) for worker in workers}
        shared = share({("", partition) for partition in partitions}, loads, {})
        return {worker: [partition for _, partition in held] for worker, held in shared.items()}

    def _open(self, left: dict[int, list[Request]], taken: dict[int, Any]) -> None:
        """Gives partitions to workers, with their unanswered requests, oldest first."""
        for worker, partitions in taken.items():
            requests = [r for p in partitions for r in (*left[p], *self._waiting.pop(p, ()))]
            for partition in partitions:
                self._owner[partition] = worker
            for request in sorted(requests, key=lambda request: request.sent):
                self._workers[worker].deliver(request)

    def _cell_of(self, number: int) -> range:
        size = self._setup.cell_workers
        return range(number // size * size, (number // size + 1) * size)

    def _upgrade(self) -> Generator[Event, Any, None]:
        """Replaces the workers of all cells, one at a time in each."""
        for place in range(self._setup.cell_workers):
            yield self._env.timeout(self._costs.scorer.start_s)
            for cell in range(self._setup.cells):
                self._env.process(self._handover(cell * self._setup.cell_workers + place))

    def _handover(self, number: int) -> Generator[Event, Any, None]:
        worker = self._workers[number]
        held = [p for p, owner in enumerate(self._owner) if owner == number]
        left: dict[int, list[Request]] = {p: [] for p in held}
        for partition in held:
            self._owner[partition] = None
        for request in worker.release(held):
            left[request.partition].append(request)
        while worker.in_flight:
            yield self._env.timeout(_DRAIN_STEP_S)
        self._replace(number)
        yield self._env.timeout(TAKEOVER_S)
        self._open(left, {number: held})

    def _switch(self) -> Generator[Event, Any, None]:
        """Each server loads the second version; workers warm it, then move their users."""
        yield self._env.all_of([server.cores.run(self._costs.server.load_s) for server in self._servers])
        calls = PredictorSettings().warmup_requests
        yield self._env.all_of([self._env.process(worker.warm(calls)) for worker in self._workers])
        start, ramp_s = self._env.now, RolloutSettings().ramp_s
        while (passed := self._env.now - start) < ramp_s + _RAMP_STEP_S:
            for worker in self._workers:
                worker.second_share = min(1.0, passed / ramp_s)
            yield self._env.timeout(_RAMP_STEP_S)


def setup_seed(setup: Setup) -> int:
    """The seed of the traffic, apart from that of the keys."""
    return setup.seed + 7919
