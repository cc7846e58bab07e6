"""The decisions of the scorer under any load, on a virtual clock.

The queue, the dispatcher and the client of the scorer run with the simulated model server in one process, whose clock
jumps to the next event. The figures are the same on every machine. Other scenarios measure the cost of decoding and of
other stages.
"""

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.bench import Bench, Service
from benchmarks.figures import Load, percentile
from benchmarks.in_process import predictor_of
from benchmarks.overload import figures_of
from benchmarks.report import Figure, write
from benchmarks.smallest_request import smallest_request
from sandbox.model_server.simulated import SimulatedServer
from streamer.deadline import Deadline
from streamer.metrics import Metrics
from streamer.scoring.batching import Ticket
from streamer.scoring.dispatcher import Dispatcher
from streamer.settings.sections import BatchingSettings
from streamer.testing.virtual_loop import run_virtual
from streamer.types import F32, BatchInputs, EncodedRequest, ModelVersion

LOADS = (10, 25, 50, 75, 100, 125, 150, 200, 300)
"""Offered load, in percent of the server's capacity."""
STALLS = {"steady": (0.0, 0.0), "stalling": (0.5, 0.2)}
"""Stalls of the server, which stop all its calls: number per second, and duration in seconds."""
_VERSION = ModelVersion("ctr", 1)
_WORKERS = 2


@dataclass(frozen=True, slots=True)
class Setting:
    """One run: a Poisson process of requests for `seconds`, each with `candidates`, `budget_s`.

    Attributes:
        load: offered load in percent of `capacity`.
        capacity: requests per second that the server scores in full batches.
        stalls: mean number of stalls per second, at random; stall_s: their duration.
    """

    load: int
    capacity: float = 400.0
    candidates: int = 300
    budget_s: float = 0.1
    seconds: float = 20.0
    stalls: float = 0.0
    stall_s: float = 0.0
    seed: int = 1


def run(bench: Bench) -> None:
    """All loads on a steady server and on a server that stalls."""
    figures: list[Figure] = []
    for name, (stalls, stall_s) in STALLS.items():
        loads = {
            load: simulate(Setting(load, candidates=bench.options.candidates, stalls=stalls, stall_s=stall_s))
            for load in LOADS
        }
        figures += figures_of(name, loads, bound=0.85)
    setting = Setting(100, candidates=bench.options.candidates)
    settings = {
        "clock": "virtual",
        "capacity": setting.capacity,
        "candidates": setting.candidates,
        "budget_ms": setting.budget_s * 1e3,
        "seconds": setting.seconds,
        "workers": _WORKERS,
        "stalls": "{:g} a second, each for {:g} s".format(*STALLS["stalling"]),
    }
    write("decisions", figures, settings, bench.options.out)


def simulate(setting: Setting) -> Load:
    """The figures of one load."""
    return run_virtual(lambda: _Run(setting).measure())


class _Run:
    """One run, on the clock of the running loop."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._loop = asyncio.get_running_loop()
        self._random = random.Random(setting.seed)
        service = Service.of_capacity(setting.capacity, setting.candidates, _WORKERS)
        self._server = SimulatedServer(
            "", fixed_s=service.fixed_ms / 1e3, per_row_s=service.per_row_us / 1e6, workers=_WORKERS
        )
        self._predictor = predictor_of({"simulated:8500": self._server}, setting.seed)
        self._dispatcher = Dispatcher(
            BatchingSettings(), self._predict, self._spawn, self._loop.time, Metrics(), concurrency=self._predictor
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._latency_ms: list[float] = []
        self._rows: list[int] = []

    async def measure(self) -> Load:
        """Counts requests from one budget after the start, as `benchmarks.figures.under_load` does."""
        setting, start = self._setting, self._loop.time()
        encoded, rows = smallest_request(setting.candidates), np.arange(setting.candidates)
        rate = setting.capacity * setting.load / 100
        requests: list[asyncio.Task[None]] = []
        counted = 0
        if setting.stalls:
            self._spawn(self._stall(), "stalls")
        while (now := self._loop.time()) < start + setting.seconds:
            is_counted = now >= start + setting.budget_s
            counted += is_counted
            requests.append(self._loop.create_task(self._request(encoded, rows, is_counted=is_counted)))
            await asyncio.sleep(self._random.expovariate(rate))
        await asyncio.gather(*requests)
        for task in self._tasks:
            task.cancel()
        lasted = setting.seconds - setting.budget_s
        times = np.array(self._latency_ms)
        return Load(
            offered=counted / lasted,
            goodput=len(times) / lasted,
            p50=percentile(times, 50),
            p99=percentile(times, 99),
            batch_rows=float(np.mean(self._rows)) if self._rows else float("nan"),
        )

    async def _stall(self) -> None:
        while True:
            await asyncio.sleep(self._random.expovariate(self._setting.stalls))
            self._server.stall(self._loop.time(), self._setting.stall_s)

    async def _request(self, encoded: EncodedRequest, rows: Any, *, is_counted: bool) -> None:
        start = self._loop.time()
        deadline = Deadline.after(start, self._setting.budget_s * 1e3)
        found = await self._dispatcher.score(Ticket(_VERSION, encoded, rows, deadline, start))
        if is_counted and found.done.all():
            self._latency_ms.append((self._loop.time() - start) * 1e3)
            self._rows.append(found.batch_rows)

    async def _predict(self, version: ModelVersion, inputs: BatchInputs, deadline: Deadline) -> F32:
        return await self._predictor.score(version, inputs, deadline.remaining(self._loop.time()))

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
