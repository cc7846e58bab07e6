"""Calls of the model server over gRPC and REST: CPU per request, throughput, latency."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from benchmarks.bench import MODEL, SPEC, UNHURRIED, Bench
from benchmarks.figures import faults, percentile
from benchmarks.report import Figure, write
from sandbox.host.priority import real_time_priority
from sandbox.processes.scorer import ScorerProcess
from sandbox.traffic.report import TrafficReport
from sandbox.traffic.run import run_traffic
from sandbox.world.bid_requests import RequestFactory

OVERRIDDEN: Mapping[str, object] = {**UNHURRIED, "predictor.spec_files": {MODEL: SPEC}}
"""With a spec file, because a model of an older export has no signature for its spec that REST can call."""
RATE = 20.0
"""Requests per second of the latency: so few that each call has one request."""
_PART = 4


@dataclass(frozen=True, slots=True)
class Turn:
    """What one protocol needed in one round; times in ms.

    Attributes:
        rate: requests per second of a saturated scorer.
        cpu: of that scorer, per request.
        server_cpu: of the model server, per request of that scorer.
        call: median time of a call with one request.
    """

    rate: float
    cpu: float
    server_cpu: float
    call: float


def run(bench: Bench) -> None:
    """Both protocols in turns, on one model server: a backlog, then traffic at a low rate."""
    options, server = bench.options, bench.server
    addresses = {"grpc": server.address, "rest": server.rest_address}
    turns: dict[str, list[Turn]] = {name: [] for name in addresses}
    reports: list[TrafficReport] = []
    for turn in range(options.rounds):
        for name, address in addresses.items():
            found, report = _turn(bench, name, address, turn)
            turns[name].append(found)
            reports.append(report)
            bench.console.print(
                f"round {turn + 1}, {name}: {found.rate:.0f} requests/s, {found.cpu:.2f} ms of CPU per request in the"
                f" scorer, {found.server_cpu:.2f} in the model server; call p50 {found.call:.2f} ms"
            )
    settings = {
        "model_server": server.version,
        "candidates": options.candidates,
        "rounds": options.rounds,
        "rate_of_the_calls": RATE,
        "overridden": dict(OVERRIDDEN),
    }
    wrong = Figure("faults", sum(map(faults, reports)), "requests", "<=", 0)
    write("protocols", [*_figures(turns), wrong], settings, options.out)


def _turn(bench: Bench, name: str, address: str, turn: int) -> tuple[Turn, TrafficReport]:
    overridden = {**OVERRIDDEN, "predictor.protocol": name}
    requests, server = bench.backlog_size // _PART, psutil.Process(bench.server.pid)
    source, before = bench.backlog(requests), sum(server.cpu_times()[:2])
    saturated = bench.process_backlog(source, requests, [address], overridden)
    server_cpu = 1e3 * (sum(server.cpu_times()[:2]) - before) / requests
    topics = bench.topics(f"protocol-{name}-{turn}")
    factory = RequestFactory(bench.world, candidates=bench.options.candidates, seed=turn, prefix=f"turn{turn}-")
    settings = bench.settings(topics, [address], overridden)
    with (
        ScorerProcess(settings, bench.work / f"protocol-{name}.log") as scorer,
        real_time_priority(scorer.pid, bench.server.pid),
    ):
        report = run_traffic(bench.bootstrap, topics, factory, rate=RATE, seconds=bench.options.seconds / 2)
    call = percentile(report.times.stage_ms["predict"], 50)
    return Turn(saturated.requests_per_second, saturated.cpu_ms, server_cpu, call), report


def _figures(turns: Mapping[str, Sequence[Turn]]) -> list[Figure]:
    names = {"rate": ("requests_per_second", "requests/s"), "cpu": ("cpu_per_request", "ms")}
    names |= {"server_cpu": ("server_cpu_per_request", "ms"), "call": ("call_p50", "ms")}
    figures = []
    for field, (name, unit) in names.items():
        of = {protocol: [float(getattr(turn, field)) for turn in found] for protocol, found in turns.items()}
        figures += [Figure(f"{protocol}_{name}", statistics.median(values), unit) for protocol, values in of.items()]
        ratio = statistics.median(rest / grpc for rest, grpc in zip(of["rest"], of["grpc"], strict=True))
        figures.append(Figure(f"rest_over_grpc_{name}", ratio, "ratio"))
    return figures
