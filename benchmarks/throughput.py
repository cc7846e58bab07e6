"""Throughput of the scorer, the floor and the naive program on the same requests."""

import statistics
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.bench import UNHURRIED, Bench
from benchmarks.programs import Run, follow, program
from benchmarks.report import Figure, write

# The naive program gets a quarter of the backlog, because it is slower.
PARTS = {"floor": 1, "naive": 4, "scorer": 1}


def run(bench: Bench) -> None:
    """Each program processes its backlog in turns, for some rounds.

    Raises:
        AssertionError: the programs' scores differ.
    """
    options = bench.options
    runs: dict[str, list[Run]] = {name: [] for name in PARTS}
    for turn in range(options.rounds):
        for name in PARTS:
            found = _one(bench, name, turn)
            runs[name].append(found)
            bench.console.print(
                f"round {turn + 1}, {name}: {found.requests_per_second:.0f} requests/s, {found.cpu_ms:.2f} ms of CPU "
                f"per request, {found.resident_mb:.0f} MB"
            )
    _check_scores(runs)
    bench.saturated = statistics.median(found.requests_per_second for found in runs["scorer"])
    settings = {
        "model_server": bench.server.version,
        "candidates": options.candidates,
        "rounds": options.rounds,
        "overridden": dict(UNHURRIED),
    }
    write("throughput", _figures(runs, options.candidates), settings, options.out)


def _one(bench: Bench, name: str, turn: int) -> Run:
    requests = bench.backlog_size // PARTS[name]
    source = bench.backlog(requests)
    if name == "scorer":
        return bench.process_backlog(source, requests, [bench.server.address])
    output = f"{name}-{turn}"
    bench.broker.create_topic(output, 1)
    arguments = {
        "bootstrap": bench.bootstrap,
        "model-server": bench.server.address,
        "input": source,
        "output": output,
        "group": output,
    }
    log: Path = bench.work / f"{output}.log"
    with program(f"benchmarks.{name}", arguments, log) as pid:
        return follow(pid, bench.bootstrap, output, requests)


def _check_scores(runs: Mapping[str, list[Run]]) -> None:
    ours = runs["scorer"][0].scores
    for name in ("floor", "naive"):
        for request_id, ctr in runs[name][0].scores.items():
            np.testing.assert_allclose(ctr, ours[request_id], rtol=0, atol=2e-6, err_msg=f"{name}: {request_id}")


def _figures(runs: Mapping[str, list[Run]], candidates: int) -> list[Figure]:
    def median(name: str, figure: str) -> float:
        return float(statistics.median(getattr(run, figure) for run in runs[name]))

    def ratio(figure: str, other: str) -> float:
        pairs = zip(runs["scorer"], runs[other], strict=True)
        return float(statistics.median(getattr(a, figure) / getattr(b, figure) for a, b in pairs))

    rates = {name: median(name, "requests_per_second") * candidates for name in runs}
    return [
        *(Figure(f"{name}_candidates_per_second", rate, "candidates/s") for name, rate in rates.items()),
        Figure("scorer_over_floor", ratio("requests_per_second", "floor"), "ratio", ">=", 0.7),
        Figure("scorer_over_naive", ratio("requests_per_second", "naive"), "ratio", ">=", 2.0),
        *(Figure(f"{name}_cpu_per_request", median(name, "cpu_ms"), "ms") for name in runs),
        Figure("scorer_cpu_over_floor", ratio("cpu_ms", "floor"), "ratio", "<=", 1.5),
        *(Figure(f"{name}_resident", median(name, "resident_mb"), "MB") for name in ("floor", "naive")),
        Figure("scorer_resident", max(run.resident_mb for run in runs["scorer"]), "MB", "<=", 150),
    ]
