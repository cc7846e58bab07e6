"""Cores that jobs share, and threads that run on them, on the clock of SimPy."""

import heapq
from collections import deque
from itertools import count

from simpy import Environment, Event

_EPSILON_S = 1e-12


class Cores:
    """The cores of a machine, which share their time equally among the jobs that are ready.

    Processor sharing: with n jobs each one runs at the speed min(1, `count` / n).

    Invariants: (1) every job ends after it has had its seconds; (2) no core is idle while a job waits; (3) `used_s` is
    the sum of the seconds that the jobs have had.
    """

    def __init__(self, env: Environment, count_: int) -> None:
        self.env, self.count = env, count_
        self.used_s = 0.0
        self._jobs: list[tuple[float, int, Event]] = []
        self._order = count()
        # The seconds that a job has had that is ready since the start, and when that was computed.
        self._service, self._at = 0.0, env.now
        self._timer = 0

    def run(self, seconds: float) -> Event:
        """An event at the end of a job of so many seconds of CPU."""
        self._advance()
        done = self.env.event()
        heapq.heappush(self._jobs, (self._service + seconds, next(self._order), done))
        if len(self._jobs) > self.count or self._jobs[0][2] is done:
            self._schedule()
        return done

    def _advance(self) -> None:
        passed, jobs = self.env.now - self._at, len(self._jobs)
        if jobs and passed:
            self._service += passed * min(1.0, self.count / jobs)
            self.used_s += passed * min(self.count, jobs)
        self._at = self.env.now

    def _schedule(self) -> None:
        """Sets the timer of the next end. The timers before it find another number, and do nothing."""
        self._timer += 1
        if self._jobs:
            speed = min(1.0, self.count / len(self._jobs))
            left = max(0.0, self._jobs[0][0] - self._service) / speed
            callbacks = self.env.timeout(left, self._timer).callbacks
            assert callbacks is not None
            callbacks.append(self._end)

    def _end(self, timer: Event) -> None:
        if timer.value != self._timer:
            return
        self._advance()
        # The first job ends now, also if rounding has left a part of it that is too small to move the clock.
        self._service = max(self._service, self._jobs[0][0])
        while self._jobs and self._jobs[0][0] <= self._service + _EPSILON_S:
            heapq.heappop(self._jobs)[2].succeed()
        self._schedule()


class Thread:
    """Pieces of work that run one after the other, on shared cores or on a core of their own."""

    def __init__(self, env: Environment, cores: Cores | None = None) -> None:
        """`cores`: None for a core of its own."""
        self.env = env
        self.used_s = 0.0
        self._cores = cores
        self._free_at = 0.0
        self._waiting: deque[tuple[float, Event]] = deque()
        self._busy = False

    def run(self, seconds: float) -> Event:
        """An event at the end of a piece of work."""
        self.used_s += seconds
        if self._cores is None:
            self._free_at = max(self._free_at, self.env.now) + seconds
            return self.env.timeout(self._free_at - self.env.now)
        done = self.env.event()
        self._waiting.append((seconds, done))
        if not self._busy:
            self._next()
        return done

    def _next(self) -> None:
        self._busy = True
        seconds, done = self._waiting.popleft()
        assert self._cores is not None
        callbacks = self._cores.run(seconds).callbacks
        assert callbacks is not None

        def end(_: Event) -> None:
            done.succeed()
            self._busy = False
            if self._waiting:
                self._next()

        callbacks.append(end)
