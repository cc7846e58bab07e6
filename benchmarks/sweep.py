"""Capacity over the number of candidates, and latency over the rate, in one pass each."""

from benchmarks.bench import UNHURRIED, Bench
from benchmarks.figures import faults, percentile
from benchmarks.report import Figure, write
from sandbox.host.priority import real_time_priority
from sandbox.processes.scorer import ScorerProcess
from sandbox.traffic.run import run_traffic
from sandbox.world.bid_requests import RequestFactory

CANDIDATES = (10, 30, 100, 300, 1000, 2000)
SHARES = (10, 30, 50, 70, 85)
"""Rates in percent of the saturation."""
_MAX_FACTOR = 4
_LARGE_QUEUE = {**UNHURRIED, "batching.max_queued_rows": 10_000_000}
"""A backlog of large requests, none of which may be rejected."""


def run(bench: Bench) -> None:
    """First backlogs of requests of each size, then open-loop traffic at each rate."""
    rate = bench.saturation()
    figures = [*_over_candidates(bench), *_over_rate(bench, rate)]
    settings = {
        "model_server": bench.server.version,
        "candidates_over_rate": bench.options.candidates,
        "saturation": round(rate, 1),
        "seconds": bench.options.seconds,
        "overridden": _LARGE_QUEUE,
    }
    write("sweep", figures, settings, bench.options.out)


def _over_candidates(bench: Bench) -> list[Figure]:
    figures = []
    for candidates in CANDIDATES:
        size = round(bench.backlog_size * min(_MAX_FACTOR, bench.options.candidates / candidates))
        topic = f"sweep-{candidates}"
        factory = RequestFactory(bench.world, candidates=candidates, seed=candidates, prefix=topic)
        bench.fill_new(topic, factory, size)
        found = bench.process_backlog(topic, size, [bench.server.address], _LARGE_QUEUE, warm_up=size // 5)
        bench.console.print(f"{candidates} candidates: {found.requests_per_second:.0f} requests/s")
        figures += [
            Figure(f"rate_{candidates}", found.requests_per_second, "requests/s"),
            Figure(f"candidates_per_second_{candidates}", found.requests_per_second * candidates, "candidates/s"),
            Figure(f"cpu_per_request_{candidates}", found.cpu_ms, "ms"),
            Figure(f"cpu_per_candidate_{candidates}", 1e3 * found.cpu_ms / candidates, "us"),
        ]
    return figures


def _over_rate(bench: Bench, saturation: float) -> list[Figure]:
    """Scorer and model server have real-time priority, if the system permits it."""
    options, topics, figures, wrong = bench.options, bench.topics("sweep"), list[Figure](), 0
    settings = bench.settings(topics, [bench.server.address], UNHURRIED)
    with (
        ScorerProcess(settings, bench.work / "sweep.log") as scorer,
        real_time_priority(scorer.pid, bench.server.pid),
    ):
        for turn, share in enumerate((SHARES[0], *SHARES)):  # the first one is a warm-up
            prefix = f"sweep{turn}"
            factory = RequestFactory(bench.world, candidates=options.candidates, seed=turn, prefix=prefix)
            rate = saturation * share / 100
            report = run_traffic(bench.bootstrap, topics, factory, rate=rate, seconds=options.seconds)
            scoring, whole = report.times.stage_ms["total"], report.times.since_due_ms
            bench.console.print(f"{share} % of saturation: scoring p99 {percentile(scoring, 99):.1f} ms")
            wrong += faults(report)
            if not turn:
                continue
            figures += [
                Figure(f"scoring_p50_at_{share}", percentile(scoring, 50), "ms"),
                Figure(f"scoring_p99_at_{share}", percentile(scoring, 99), "ms"),
                Figure(f"end_to_end_p50_at_{share}", percentile(whole, 50), "ms"),
                Figure(f"end_to_end_p99_at_{share}", percentile(whole, 99), "ms"),
                Figure(f"batch_rows_p50_at_{share}", percentile(report.times.batch_rows, 50), "rows"),
            ]
    return [*figures, Figure("faults", wrong, "requests", "<=", 0)]
