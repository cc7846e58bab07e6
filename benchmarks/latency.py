"""Scoring and end-to-end latency of open-loop traffic at 30 % of saturation."""

from benchmarks.bench import UNHURRIED, Bench
from benchmarks.figures import faults, percentile
from benchmarks.report import Figure, write
from sandbox.host.priority import real_time_priority
from sandbox.processes.scorer import ScorerProcess
from sandbox.traffic.report import TrafficReport
from sandbox.traffic.run import run_traffic
from sandbox.world.bid_requests import RequestFactory

SHARE = 0.3
_LONGER = 3


def run(bench: Bench) -> None:
    """The scorer measures scoring, from receipt to answer; the ranker measures `end_to_end`.

    It measures twice: with equal priority for all processes; and with real-time priority for scorer and model server,
    because broker, bidder and ranker run on other machines in production.
    """
    options = bench.options
    rate = SHARE * bench.saturation()
    topics = bench.topics("latency")
    bench.console.print(f"latency at {rate:.0f} requests/s ({SHARE:.0%} of saturation) ...")

    def traffic(prefix: str, seconds: float) -> TrafficReport:
        factory = RequestFactory(bench.world, candidates=options.candidates, seed=len(prefix), prefix=prefix)
        return run_traffic(bench.bootstrap, topics, factory, rate=rate, seconds=seconds)

    overridden = bench.settings(topics, [bench.server.address], UNHURRIED)
    with ScorerProcess(overridden, bench.work / "latency.log") as scorer:
        traffic("warm-up", options.seconds)
        equal = traffic("equal", _LONGER * options.seconds)
        with real_time_priority(scorer.pid, bench.server.pid) as allowed:
            first = traffic("first", _LONGER * options.seconds)
    scoring, whole = first.times.stage_ms["total"], first.times.latency_ms
    figures = [
        Figure("scoring_p50", percentile(scoring, 50), "ms"),
        Figure("scoring_p99", percentile(scoring, 99), "ms", "<=", 10.0),
        Figure("scoring_p999", percentile(scoring, 99.9), "ms"),
        Figure("end_to_end_p50", percentile(whole, 50), "ms"),
        Figure("end_to_end_p99", percentile(whole, 99), "ms"),
        Figure("as_equals_scoring_p50", percentile(equal.times.stage_ms["total"], 50), "ms"),
        Figure("as_equals_scoring_p99", percentile(equal.times.stage_ms["total"], 99), "ms"),
        Figure("as_equals_end_to_end_p50", percentile(equal.times.latency_ms, 50), "ms"),
        Figure("as_equals_end_to_end_p99", percentile(equal.times.latency_ms, 99), "ms"),
        Figure("batch_rows_p50", percentile(first.times.batch_rows, 50), "rows"),
        Figure("faults", faults(first) + faults(equal), "requests", "<=", 0),
    ]
    settings = {
        "model_server": bench.server.version,
        "candidates": options.candidates,
        "seconds": _LONGER * options.seconds,
        "rate": round(rate, 1),
        "scorer_and_model_server_ahead": allowed,
        "overridden": dict(UNHURRIED),
    }
    write("latency", figures, settings, options.out)
