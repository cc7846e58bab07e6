"""A model server: threads that limit its calls, and cores that the calls share."""

import random
from collections.abc import Callable

from simpy import Environment, Event

from benchmarks.simulation.cores import Cores
from benchmarks.simulation.costs import Costs

Code = str | None
"""The status code of a failed call; None for scores."""


class ModelServer:
    """Scores calls; rejects them at once while `threads` calls are active, as the real one.

    Invariant: every call gets one reply, also if the server is killed.
    """

    def __init__(self, env: Environment, cores: Cores, threads: int, costs: Costs, seed: int) -> None:
        self.env, self.cores, self.threads, self._costs = env, cores, threads, costs
        self.calls = self.rows = self.rejected = 0
        self.alive = True
        self._active: set[Event] = set()
        self._random = random.Random(seed)
        self._spread: list[float] = costs.spread().tolist()
        self._trip_s = costs.server.round_trip_ms / 1e3

    def call(self, rows: int) -> Event:
        """The reply to a call, with its code as the value."""
        reply = self.env.event()
        if not self.alive:
            self._after(self._trip_s, reply, "UNAVAILABLE")
        elif len(self._active) >= self.threads:
            self.rejected += 1
            self._after(self._trip_s, reply, "RESOURCE_EXHAUSTED")
        else:
            self.calls += 1
            self.rows += rows
            self._active.add(reply)
            _then(self.cores.run(self._costs.call_s(rows) * self._factor()), lambda: self._scored(reply))
        return reply

    def kill(self) -> None:
        """Ends the server; its active calls fail."""
        self.alive = False
        for reply in self._active:
            reply.succeed("UNAVAILABLE")
        self._active.clear()

    def start(self) -> None:
        """Starts the server again, with its version loaded."""
        self.alive = True

    def _scored(self, reply: Event) -> None:
        if reply in self._active:
            self._active.discard(reply)
            self._after(self._trip_s, reply, None)

    def _after(self, seconds: float, reply: Event, code: Code) -> None:
        def answer() -> None:
            if not reply.triggered:
                reply.succeed(code)

        _then(self.env.timeout(seconds), answer)

    def _factor(self) -> float:
        at, rest = divmod(self._random.random() * (len(self._spread) - 1), 1.0)
        low, high = self._spread[int(at)], self._spread[int(at) + 1]
        return low + rest * (high - low)


def _then(event: Event, act: Callable[[], None]) -> None:
    assert event.callbacks is not None
    event.callbacks.append(lambda _: act())
