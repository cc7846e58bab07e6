"""The cost of `exactly_once` against `at_least_once`, in throughput and latency.

The model server is simulated and fast, so the scorer is the bottleneck.
"""

import statistics
from collections.abc import Mapping

from benchmarks.bench import UNHURRIED, Bench, Service
from benchmarks.figures import faults, percentile
from benchmarks.programs import Run
from benchmarks.report import Figure, write
from sandbox.processes.scorer import ScorerProcess
from sandbox.traffic.report import TrafficReport
from sandbox.traffic.run import run_traffic
from sandbox.world.bid_requests import RequestFactory

GUARANTEES = ("at_least_once", "exactly_once")
SHARE = 0.3
PARTITIONS = 4
QUICK = Service(fixed_ms=1.0, per_row_us=0.5, workers=4)
"""A full batch takes 1.6 ms, four batches at a time: more than a scorer with one core can use."""
_WARM_UP = 0.2
_LONGER = 2


def run(bench: Bench) -> None:
    """Each guarantee processes the backlog in turns; then traffic at 30 % of the slower rate."""
    options = bench.options
    runs: dict[str, list[Run]] = {guarantee: [] for guarantee in GUARANTEES}
    requests = bench.backlog_size
    with bench.simulated(QUICK) as server:
        source = bench.backlog(requests, PARTITIONS)
        for turn in range(options.rounds):
            for guarantee in GUARANTEES:
                found = bench.process_backlog(
                    source, requests, [server.address], _overridden(guarantee), warm_up=round(_WARM_UP * requests)
                )
                runs[guarantee].append(found)
                bench.console.print(
                    f"round {turn + 1}, {guarantee}: {found.requests_per_second:.0f} requests/s, {found.cpu_ms:.2f} ms "
                    "of CPU per request"
                )
        rate = SHARE * min(_median(found, "requests_per_second") for found in runs.values())
        reports = {guarantee: _traffic(bench, guarantee, server.address, rate) for guarantee in GUARANTEES}
    settings = {
        "candidates": options.candidates,
        "rounds": options.rounds,
        "requests": requests,
        "partitions": PARTITIONS,
        "rate_of_the_latency": round(rate, 1),
        "seconds_of_the_latency": _LONGER * options.seconds,
        "simulated": {"fixed_ms": QUICK.fixed_ms, "per_row_us": QUICK.per_row_us, "workers": QUICK.workers},
        "overridden": dict(UNHURRIED),
    }
    write("delivery", [*_throughput(runs), *_latency(reports)], settings, options.out)


def _overridden(guarantee: str) -> dict[str, object]:
    return {**UNHURRIED, "delivery.guarantee": guarantee}


def _traffic(bench: Bench, guarantee: str, address: str, rate: float) -> TrafficReport:
    """Open-loop traffic; the ranker reads committed answers only."""
    options = bench.options
    topics = bench.topics(f"delivery-{guarantee}", PARTITIONS)
    bench.console.print(f"latency of {guarantee} at {rate:.0f} requests/s ...")
    with ScorerProcess(bench.settings(topics, [address], _overridden(guarantee)), bench.work / f"{guarantee}.log"):
        warm_up = RequestFactory(bench.world, candidates=options.candidates, seed=13, prefix="warm-up")
        run_traffic(bench.bootstrap, topics, warm_up, rate=rate, seconds=options.seconds)
        measured = RequestFactory(bench.world, candidates=options.candidates, seed=14, prefix="measured")
        return run_traffic(bench.bootstrap, topics, measured, rate=rate, seconds=_LONGER * options.seconds)


def _throughput(runs: Mapping[str, list[Run]]) -> list[Figure]:
    at_least, exactly = (runs[guarantee] for guarantee in GUARANTEES)
    ratios = [b.requests_per_second / a.requests_per_second for a, b in zip(at_least, exactly, strict=True)]
    return [
        *(Figure(f"{name}_rate", _median(found, "requests_per_second"), "requests/s") for name, found in runs.items()),
        Figure("exactly_over_at_least_once", statistics.median(ratios), "ratio", ">=", 0.7),
        *(Figure(f"{name}_cpu_per_request", _median(found, "cpu_ms"), "ms") for name, found in runs.items()),
    ]


def _latency(reports: Mapping[str, TrafficReport]) -> list[Figure]:
    figures = []
    for q in (50, 99):
        at_least, exactly = (percentile(reports[guarantee].times.latency_ms, q) for guarantee in GUARANTEES)
        figures += [
            Figure(f"at_least_once_p{q}", at_least, "ms"),
            Figure(f"exactly_once_p{q}", exactly, "ms"),
            Figure(f"added_p{q}", exactly - at_least, "ms"),
        ]
    return [*figures, Figure("faults", sum(faults(report) for report in reports.values()), "requests", "<=", 0)]


def _median(runs: list[Run], figure: str) -> float:
    return float(statistics.median(getattr(run, figure) for run in runs))
