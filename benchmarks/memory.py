"""Resident memory of a worker over 15 minutes of traffic, with the score cache off."""

import statistics
import time

import psutil

from benchmarks.bench import UNHURRIED, Bench
from benchmarks.bounds import bound_of
from benchmarks.figures import faults
from benchmarks.latency import RATE
from benchmarks.report import Figure, write
from sandbox.processes.scorer import ScorerProcess
from sandbox.traffic.run import run_traffic
from sandbox.world.bid_requests import RequestFactory

_TIMES = 150
_LONGEST_S = 900.0
_SAMPLE_S = 1.0
_PARTS = 5


def run(bench: Bench) -> None:
    """Samples the memory every second."""
    options = bench.options
    topics = bench.topics("memory")
    factory = RequestFactory(bench.world, candidates=options.candidates, seed=21, prefix="memory")
    samples: list[float] = []
    seconds = min(_TIMES * options.seconds, _LONGEST_S)
    settings = bench.settings(topics, [bench.server.address], UNHURRIED)
    with ScorerProcess(settings, bench.work / "memory.log") as scorer:
        process = psutil.Process(scorer.pid)
        end = time.monotonic() + seconds

        def sample() -> None:
            while time.monotonic() < end:
                samples.append(process.memory_info().rss / 2**20)
                time.sleep(_SAMPLE_S)

        bench.console.print(f"memory: {seconds:.0f} s of traffic at {RATE:.0f} requests/s ...")
        report = run_traffic(bench.bootstrap, topics, factory, rate=RATE, seconds=0.0, meanwhile=sample)
    shown = {
        "model_server": bench.server.version,
        "candidates": options.candidates,
        "seconds": seconds,
        "rate": RATE,
        "overridden": dict(UNHURRIED),
    }
    wrong = Figure("faults", faults(report), "requests", "<=", 0)
    write("memory", [*figures_of(samples), wrong], shown, options.out)


def figures_of(samples: list[float]) -> list[Figure]:
    """The last fifth over the second fifth: the memos of the process fill in the first."""
    size = max(1, len(samples) // _PARTS)
    first, last = statistics.median(samples[size : 2 * size] or samples), statistics.median(samples[-size:])
    return [
        Figure("first", first, "MB"),
        Figure("last", last, "MB"),
        Figure("largest", max(samples), "MB", "<=", 120.0),
        Figure("last_over_first", last / first, "ratio", *bound_of("memory", "last_over_first")),
    ]
