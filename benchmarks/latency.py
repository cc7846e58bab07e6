"""Scoring and end-to-end time under open-loop traffic at a share of saturation."""

from benchmarks.common import UNHURRIED, Bench
from benchmarks.figures import faults, percentile
from benchmarks.report import Figure, write
from sandbox.drive import drive
from sandbox.requests import RequestFactory
from sandbox.scorer import ScorerProcess

SHARE = 0.3
_LONGER = 3


def run(bench: Bench) -> None:
    """Times are the scorer's own, from receipt to answer, but for `end_to_end`, which the ranker measures."""
    options = bench.options
    rate = SHARE * bench.saturation()
    topics = bench.topics("latency")
    bench.console.print(f"latency at {rate:.0f} requests/s ({SHARE:.0%} of saturation) ...")
    with ScorerProcess(bench.settings(topics, [bench.server.address], UNHURRIED), bench.work / "latency.log"):
        warm_up = RequestFactory(bench.world, candidates=options.candidates, seed=4, prefix="warm-up")
        drive(bench.bootstrap, topics, warm_up, rate=rate, seconds=options.seconds)
        measured = RequestFactory(bench.world, candidates=options.candidates, seed=5, prefix="latency")
        report = drive(bench.bootstrap, topics, measured, rate=rate, seconds=_LONGER * options.seconds)
    scoring, whole = report.times.stage_ms["total"], report.times.latency_ms
    figures = [
        Figure("scoring_p50", percentile(scoring, 50), "ms"),
        Figure("scoring_p99", percentile(scoring, 99), "ms", "<=", 10.0),
        Figure("scoring_p999", percentile(scoring, 99.9), "ms"),
        Figure("end_to_end_p50", percentile(whole, 50), "ms"),
        Figure("end_to_end_p99", percentile(whole, 99), "ms"),
        Figure("batch_rows_p50", percentile(report.times.batch_rows, 50), "rows"),
        Figure("faults", faults(report), "requests", "<=", 0),
    ]
    settings = {
        "candidates": options.candidates,
        "seconds": _LONGER * options.seconds,
        "rate": round(rate, 1),
        "overridden": dict(UNHURRIED),
    }
    write("latency", figures, settings, options.out)
