"""One machine: workers, model server, broker, bidder and ranker share its cores.

This is the system that `check` measures.
"""

import random
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from simpy import Environment, Event

from benchmarks.simulation.cores import Cores, Thread
from benchmarks.simulation.costs import Costs
from benchmarks.simulation.outcome import Outcome, outcome_of
from benchmarks.simulation.request import Request
from benchmarks.simulation.server import ModelServer
from benchmarks.simulation.worker import Worker
from streamer.deadline import Deadline

_THREADS = 64
_BUDGET_MS = 600_000.0
# While a scorer processes a backlog, a reply to a fetch has so many requests, and two replies are ahead of its answers.
_FETCHED = 32
_SLICE_S = 0.01


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine and its load.

    `rate`: requests per second of open-loop traffic; None: a backlog, which is processed as fast as possible.
    """

    workers: int = 1
    cores: int = 2
    rate: float | None = None
    candidates: int = 300
    seconds: float = 10.0
    seed: int = 1


def run(machine: Machine, costs: Costs) -> Outcome:
    """The outcome of all requests that were answered."""
    return _Run(machine, costs).run()


def capacity(machine: Machine, costs: Costs) -> float:
    """Requests per second from a backlog, without the first quarter."""
    outcome = run(machine, costs)
    answered = np.sort(outcome.sent + outcome.latency)
    counted = answered[len(answered) // 4 :]
    return float((len(counted) - 1) / (counted[-1] - counted[0]))


class _Run:
    def __init__(self, machine: Machine, costs: Costs) -> None:
        self._machine, self._costs, self._other = machine, costs, costs.other
        env = self._env = Environment()
        self._cores = Cores(env, machine.cores)
        # Bidder and ranker are one process of Python.
        self._traffic_thread = Thread(env, self._cores)
        self._server = ModelServer(env, self._cores, _THREADS, costs, machine.seed)
        chance = random.Random(machine.seed).random
        self._workers = [
            Worker(
                env,
                costs,
                machine.candidates,
                {"server:8500": self._server},
                answer=self._answered,
                chance=chance,
                thread=Thread(env, self._cores),
            )
            for _ in range(machine.workers)
        ]
        self._requests: list[Request] = []
        self._answers = 0

    def run(self) -> Outcome:
        env, machine = self._env, self._machine
        env.process(self._background(self._costs.scorer.idle + self._other.broker_idle))
        if machine.rate is None:
            for _ in range(2 * machine.workers):
                self._fetch()
        else:
            env.process(self._traffic(machine.rate))
        env.run(until=machine.seconds)
        answered = [request for request in self._requests if request.answered == request.answered]
        used = [worker.thread.used_s / machine.seconds for worker in self._workers]
        total = self._cores.used_s / machine.cores / machine.seconds
        return outcome_of(answered, used, [total], self._server.calls, self._server.rejected)

    def _background(self, share: float) -> Generator[Event, Any, None]:
        """The work that has nothing to do with requests."""
        while share:
            yield self._cores.run(share * _SLICE_S)
            yield self._env.timeout((1 - share) * _SLICE_S)

    def _new(self) -> Request:
        now, number = self._env.now, len(self._requests)
        request = Request(number, number, now, Deadline.after(now, _BUDGET_MS), 0.0)
        self._requests.append(request)
        return request

    def _deliver(self, request: Request) -> None:
        block = 1 if self._machine.rate else _FETCHED
        self._workers[request.number // block % len(self._workers)].deliver(request)

    def _fetch(self) -> None:
        """The next requests of a backlog, for one worker."""
        requests = [self._new() for _ in range(_FETCHED)]

        def deliver(_: Event) -> None:
            for request in requests:
                self._deliver(request)

        done = self._cores.run(_FETCHED * self._other.backlog_broker_ms / 1e3)
        assert done.callbacks is not None
        done.callbacks.append(deliver)

    def _traffic(self, rate: float) -> Generator[Event, Any, None]:
        gaps = random.Random(self._machine.seed)
        while True:
            yield self._env.timeout(gaps.expovariate(rate))
            self._env.process(self._send(self._new()))

    def _send(self, request: Request) -> Generator[Event, Any, None]:
        self._traffic_thread.run(self._other.bidder_ms / 1e3)  # builds the next request
        yield self._cores.run(self._other.broker_ms / 2e3)
        yield self._env.timeout(self._other.in_ms / 1e3)
        self._deliver(request)

    def _answered(self, request: Request) -> None:
        self._env.process(self._receive(request))

    def _receive(self, request: Request) -> Generator[Event, Any, None]:
        other = self._other
        if self._machine.rate is None:
            self._answers += 1
            if self._answers % _FETCHED == 0:
                self._fetch()
            yield self._traffic_thread.run(other.backlog_reader_ms / 1e3)
        else:
            yield self._cores.run(other.broker_ms / 2e3)
            yield self._env.timeout(other.out_ms / 1e3)
            yield self._traffic_thread.run(other.ranker_ms / 1e3)
        request.answered = self._env.now
