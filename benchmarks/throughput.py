"""Capacity, CPU per request by process and memory of scorer, floor and naive program."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import numpy as np

from benchmarks.bench import SPEC, UNHURRIED, Bench
from benchmarks.bounds import bound_of
from benchmarks.programs import Run, follow, program
from benchmarks.report import Figure, write
from sandbox.world.bid_requests import CandidateLayout
from sandbox.world.world import World
from streamer import native
from streamer.features import Encoder, FeatureSpec
from streamer.types import BidRequest

# The naive program gets a quarter of the backlog, because it is slower.
PARTS = {"floor": 1, "naive": 4, "scorer": 1}
if native.module is not None:
    PARTS["scorer_python"] = 1
LAYOUTS: tuple[CandidateLayout, ...] = get_args(CandidateLayout)
Runs = Mapping[str, list[Run]]
"""The runs of each program, by round."""


def run(bench: Bench) -> None:
    """Each program processes its backlog in turns: candidates as rows, then as columns.

    Raises:
        AssertionError: the programs' scores differ.
    """
    options = bench.options
    runs: dict[CandidateLayout, dict[str, list[Run]]] = {}
    for layout in LAYOUTS:
        of = runs[layout] = {name: [] for name in PARTS}
        for turn in range(options.rounds):
            for name in PARTS if turn % 2 == 0 else reversed(PARTS):
                found = _one(bench, name, turn, layout)
                of[name].append(found)
                bench.console.print(
                    f"{layout}, round {turn + 1}, {name}: {found.requests_per_second:.0f} requests/s, "
                    f"{found.cpu_ms:.2f} ms of CPU per request, {found.resident_mb:.0f} MB"
                )
    check_scores(runs)
    bench.saturated = statistics.median(found.requests_per_second for found in runs["rows"]["scorer"])
    settings = {
        "model_server": bench.server.version,
        "candidates": options.candidates,
        "rounds": options.rounds,
        "overridden": dict(UNHURRIED),
        "native": native.state,
    }
    resident = max(found.resident_mb for of in runs.values() for found in of["scorer"])
    memo = memo_mb(bench.world)
    figures = [figure for layout, of in runs.items() for figure in figures_of(layout, of)]
    figures.append(Figure("scorer_memo", memo, "MB"))
    figures.append(Figure("scorer_resident", resident - memo, "MB", *bound_of("throughput", "scorer_resident")))
    write("throughput", figures, settings, options.out)


def memo_mb(world: World) -> float:
    """The memory of all memoised ads, which `features.memoised_ads` bounds, in MB."""
    encoder = Encoder(FeatureSpec.from_yaml(Path(SPEC)))
    encoder.encode(BidRequest("", {}, len(world.ads.json), rows=world.ads.json))
    return encoder.memo_bytes / 2**20


def _one(bench: Bench, name: str, turn: int, layout: CandidateLayout) -> Run:
    requests = bench.backlog_size // PARTS[name]
    source = bench.backlog(requests, layout=layout)
    if name in ("scorer", "scorer_python"):
        address, is_native = bench.server.address, name == "scorer"
        return bench.process_backlog(source, requests, [address], others=bench.others, native=is_native)
    output = f"{name}-{layout}-{turn}"
    bench.broker.create_topic(output, 1)
    with program(f"benchmarks.{name}", bench.arguments(source, output), bench.work / f"{output}.log") as pid:
        return follow(pid, bench.bootstrap, output, requests, others=bench.others)


def check_scores(runs: Mapping[CandidateLayout, Runs]) -> None:
    """Raises AssertionError unless all programs give the same scores in both layouts."""
    ours = runs["rows"]["scorer"][0].scores
    for layout, of in runs.items():
        for name, found in of.items():
            for request_id, ctr in found[0].scores.items():
                error = f"{name}, {layout}: {request_id}"
                np.testing.assert_allclose(ctr, ours[request_id], rtol=0, atol=2e-6, err_msg=error)


def figures_of(layout: CandidateLayout, runs: Runs) -> list[Figure]:
    """Medians of the rounds; a ratio compares runs of the same round."""

    def median(name: str, figure: str) -> float:
        return float(statistics.median(getattr(found, figure) for found in runs[name]))

    def ratio(figure: str, above: str, below: str) -> float:
        pairs = zip(runs[above], runs[below], strict=True)
        return float(statistics.median(getattr(a, figure) / getattr(b, figure) for a, b in pairs))

    ratios = {
        "scorer_over_floor": ratio("requests_per_second", "scorer", "floor"),
        "scorer_over_naive": ratio("requests_per_second", "scorer", "naive"),
        "naive_cpu_over_scorer": ratio("cpu_ms", "naive", "scorer"),
        "scorer_cpu_over_floor": ratio("cpu_ms", "scorer", "floor"),
    }
    if "scorer_python" in runs:
        ratios["naive_cpu_over_scorer_python"] = ratio("cpu_ms", "naive", "scorer_python")
    figures = [
        Figure(f"{layout}_{name}", value, "ratio", *bound_of("throughput", f"{layout}_{name}"))
        for name, value in ratios.items()
    ]
    for name, found in runs.items():
        figures += [
            Figure(f"{layout}_{name}_rate", median(name, "requests_per_second"), "requests/s"),
            Figure(f"{layout}_{name}_cpu", median(name, "cpu_ms"), "ms"),
            *(
                Figure(f"{layout}_{name}_{other}_cpu", statistics.median(one.others[other] for one in found), "ms")
                for other in found[0].others
            ),
            Figure(f"{layout}_{name}_resident", max(one.resident_mb for one in found), "MB"),
        ]
    return figures
