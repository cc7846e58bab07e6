"""The cost of a second worker: CPU per request of all processes of one scorer.

The model server is simulated and fast, so the scorer is the bottleneck. Both have real-time priority: in production a
worker has a core, which no broker, bidder or ranker needs.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import psutil

from benchmarks.bench import UNHURRIED, Bench
from benchmarks.bounds import bound_of
from benchmarks.delivery import PARTITIONS, QUICK
from benchmarks.programs import Run, follow
from benchmarks.report import Figure, write
from sandbox.host.priority import real_time_priority
from sandbox.processes.model_server import ModelServerProcess
from sandbox.processes.scorer import ScorerProcess
from sandbox.traffic.repeated_requests import Repeats
from sandbox.world.bid_requests import RequestFactory

COUNTS = (1, 2)
_POOL = 512
_WARM_UP = 0.25


def run(bench: Bench) -> None:
    """One worker and two workers in turns; all workers are ready before they read."""
    runs: dict[int, list[Run]] = {count: [] for count in COUNTS}
    with bench.simulated(QUICK) as server:
        for turn in range(bench.options.rounds):
            for count in COUNTS:
                found = _process_backlog(bench, f"workers-{count}-{turn}", server, count)
                runs[count].append(found)
                bench.console.print(
                    f"round {turn + 1}, {count} workers: {found.requests_per_second:.0f} requests/s, "
                    f"{found.cpu_ms:.2f} ms of CPU per request"
                )
    settings = {
        "candidates": bench.options.candidates,
        "rounds": bench.options.rounds,
        "requests": _requests(bench),
        "partitions": PARTITIONS,
        "simulated": {"fixed_ms": QUICK.fixed_ms, "per_row_us": QUICK.per_row_us, "workers": QUICK.workers},
        "overridden": dict(UNHURRIED),
    }
    write("workers", figures_of(runs), settings, bench.options.out)


def _process_backlog(bench: Bench, name: str, server: ModelServerProcess, workers: int) -> Run:
    """Runs `workers` workers on a topic that is filled once all of them are ready."""
    requests = _requests(bench)
    topics = bench.topics(name, PARTITIONS)
    # `follow` reads one partition.
    output = f"{name}-scores"
    bench.broker.create_topic(output, 1)
    overridden = {**UNHURRIED, "supervisor.workers": workers, "sink.topic": output}
    factory = RequestFactory(bench.world, candidates=bench.options.candidates, seed=15)
    repeats = Repeats(factory, _POOL, prefix=name)
    settings = bench.settings(topics, [server.address], overridden)
    with ScorerProcess(settings, bench.work / f"{name}.log") as scorer:
        supervisor = psutil.Process(scorer.pid)
        processes = [supervisor, *supervisor.children(recursive=True)]
        with _stopped(processes):
            bench.fill(topics.requests, repeats, requests)
        with real_time_priority(*(process.pid for process in processes), server.pid):
            return follow(scorer.pid, bench.bootstrap, output, requests, warm_up=round(_WARM_UP * requests))


def _requests(bench: Bench) -> int:
    # Two workers process the usual backlog in two seconds.
    return 2 * bench.backlog_size


@contextmanager
def _stopped(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """Within the block these processes do not run; it is shorter than a session of the group."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def figures_of(runs: Mapping[int, list[Run]]) -> list[Figure]:
    """Figures of the runs of one and of two workers; a ratio compares runs of the same round."""
    one, two = (runs[count] for count in COUNTS)
    return [
        *(
            Figure(f"cpu_per_request_{count}", statistics.median(run.cpu_ms for run in found), "ms")
            for count, found in runs.items()
        ),
        Figure(
            "cpu_of_two_over_one",
            statistics.median(b.cpu_ms / a.cpu_ms for a, b in zip(one, two, strict=True)),
            "ratio",
            *bound_of("workers", "cpu_of_two_over_one"),
        ),
        *(
            Figure(f"rate_{count}", statistics.median(run.requests_per_second for run in found), "requests/s")
            for count, found in runs.items()
        ),
        Figure(
            "rate_of_two_over_one",
            statistics.median(b.requests_per_second / a.requests_per_second for a, b in zip(one, two, strict=True)),
            "ratio",
        ),
    ]
