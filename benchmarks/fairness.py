"""Workers that share nothing but one model server, which rejects calls above its threads.

First in one process on a virtual clock, then as processes over gRPC. Both run the scorer's queue, dispatcher and client
of model servers, without Kafka.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence

import orjson

from benchmarks.bench import Bench, Service
from benchmarks.fair_worker import Counted, Worker
from benchmarks.in_process import predictor_of
from benchmarks.report import Figure, write
from sandbox.model_server.simulated import SimulatedServer
from streamer.testing.virtual_loop import run_virtual

COUNTS = (1, 2, 4, 8)
THREADS, CALL_S, BUDGET_S = 8, 0.05, 0.5
OVERLOAD = 1.5
"""Offered load of all workers together, in capacities."""
# Shares become equal over hundreds of calls of each worker.
_VIRTUAL_S, _TIMES = 60.0, 4
_ROUND_TRIP_S = 0.0004
_START_S = 6.0
_TIMEOUT_S = 60.0


def run(bench: Bench) -> None:
    """Overload by 1, 2, 4 and 8 workers: goodput and shares; then a load below the capacity."""
    seconds = _TIMES * bench.options.seconds
    figures: list[Figure] = []
    for count in COUNTS:
        best = max(rate_of(simulate(count, seconds=_VIRTUAL_S, fixed=fixed)) for fixed in fixed_limits(count, THREADS))
        figures += _figures(f"virtual_{count}", simulate(count, seconds=_VIRTUAL_S), best)
        figures += _rejected(f"virtual_{count}", simulate(count, load=0.7, seconds=_VIRTUAL_S / 4))
        best = max(
            rate_of(processes(bench, count, OVERLOAD, seconds / 4, fixed=THREADS // count + more)) for more in (0, 1)
        )
        figures += _figures(f"processes_{count}", processes(bench, count, OVERLOAD, seconds), best)
        figures += _rejected(f"processes_{count}", processes(bench, count, 0.7, seconds / 4))
        bench.console.print(f"{count} workers")
    settings = {"threads": THREADS, "call_ms": CALL_S * 1e3, "budget_ms": BUDGET_S * 1e3, "load": OVERLOAD}
    write("fairness", figures, settings, bench.options.out)


def fixed_limits(workers: int, threads: int) -> Sequence[int]:
    """Fixed numbers of calls of each worker, among which is the best one."""
    return sorted({1, max(1, threads // workers), threads // workers + 1, threads})


def simulate(
    workers: int,
    *,
    threads: int = THREADS,
    load: float = OVERLOAD,
    seconds: float = 20.0,
    fixed: int | None = None,
    rejects: bool = True,
    late_s: float = 0.0,
) -> list[Counted]:
    """The outcome of each worker on a virtual clock.

    `load` is in capacities of the server. Every second worker starts after `late_s`. The first quarter of the time does
    not count, nor do the first `late_s`.
    """

    async def measure() -> list[Counted]:
        start = asyncio.get_running_loop().time()
        server = SimulatedServer("", fixed_s=CALL_S, per_row_s=0.0, workers=threads, rejects=rejects)
        rate = load * threads / CALL_S / workers
        group = [
            Worker(
                predictor_of({"simulated:8500": server}, seed, round_trip_s=_ROUND_TRIP_S, fixed=fixed),
                rate,
                BUDGET_S,
                seed,
            )
            for seed in range(workers)
        ]
        outcomes = await asyncio.gather(
            *(one.run(start + i % 2 * late_s, start + seconds) for i, one in enumerate(group))
        )
        counted = start + max(seconds / 4, late_s), start + seconds
        return [outcome.counted(*counted) for outcome in outcomes]

    return run_virtual(measure)


def rate_of(workers: Sequence[Counted]) -> float:
    """Scored requests per second of all workers."""
    return sum(worker.rate for worker in workers)


def deviation(workers: Sequence[Counted]) -> float:
    """The largest deviation of a worker's share from an equal one, as a part of the equal one."""
    equal = rate_of(workers) / len(workers)
    return max(abs(worker.rate - equal) for worker in workers) / equal


def _figures(name: str, workers: Sequence[Counted], best: float) -> list[Figure]:
    return [
        Figure(f"{name}_goodput_over_best", rate_of(workers) / best, "ratio", ">=", 0.9),
        Figure(f"{name}_share_deviation", deviation(workers), "ratio", "<=", 0.2),
    ]


def _rejected(name: str, workers: Sequence[Counted]) -> list[Figure]:
    return [Figure(f"{name}_rejected_answers_below_capacity", sum(w.rejected for w in workers), "requests", "<=", 0)]


def processes(bench: Bench, workers: int, load: float, seconds: float, *, fixed: int | None = None) -> list[Counted]:
    """The outcome of each worker process."""
    service = Service(CALL_S * 1e3, 0.0, THREADS)
    rate = load * THREADS / CALL_S / workers
    with bench.simulated(service, "--reject") as server:
        start = time.monotonic() + _START_S
        options: dict[str, object] = {
            "--address": server.address,
            "--rate": rate,
            "--seconds": seconds,
            "--start": start,
        }
        options |= {"--budget-ms": BUDGET_S * 1e3}
        options |= {} if fixed is None else {"--fixed": fixed}
        command = [sys.executable, "-m", "benchmarks.fair_worker", *(str(p) for pair in options.items() for p in pair)]
        running = [subprocess.Popen([*command, "--seed", str(seed)], stdout=subprocess.PIPE) for seed in range(workers)]
        try:
            outputs = [process.communicate(timeout=_START_S + seconds + _TIMEOUT_S)[0] for process in running]
        finally:
            for process in running:
                process.kill()
    return [Counted(**orjson.loads(output)) for output in outputs]
