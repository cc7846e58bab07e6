"""Calls to the model server over gRPC and over REST: CPU of the scorer per request, and latency."""

import statistics
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import psutil

from benchmarks.bench import MODEL, SPEC, UNHURRIED, Bench
from benchmarks.figures import faults, percentile
from benchmarks.report import Figure, write
from sandbox.broker.topics import Topics
from sandbox.host.priority import real_time_priority
from sandbox.processes.scorer import ScorerProcess
from sandbox.traffic.report import TrafficReport
from sandbox.traffic.run import run_traffic
from sandbox.world.bid_requests import RequestFactory

OVERRIDDEN: Mapping[str, object] = {**UNHURRIED, "predictor.spec_files": {MODEL: SPEC}}
"""With a spec file, because a model of an older export has no signature for its spec that REST can call."""
RATE = 20.0
"""Requests per second: so few that each call has one request."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one protocol needed in one round; times in ms.

    Attributes:
        cpu: of the scorer, per request.
        server_cpu: of the model server, per request.
        predict: median time of a call.
        scoring: median time from receipt to answer.
    """

    cpu: float
    server_cpu: float
    predict: float
    scoring: float


def run(bench: Bench) -> None:
    """Both protocols in turns, on one model server, with the same requests in a round."""
    options, server = bench.options, bench.server
    addresses = {"grpc": server.address, "rest": server.rest_address}
    turns: dict[str, list[Turn]] = {name: [] for name in addresses}
    wrong = 0
    with ExitStack() as stack:
        programs: dict[str, tuple[ScorerProcess, Topics]] = {}
        for name, address in addresses.items():
            topics = bench.topics(f"protocol-{name}")
            settings = bench.settings(topics, [address], {**OVERRIDDEN, "predictor.protocol": name})
            scorer = stack.enter_context(ScorerProcess(settings, bench.work / f"protocol-{name}.log"))
            programs[name] = scorer, topics
        pids = [scorer.pid for scorer, _ in programs.values()]
        # Broker, bidder and ranker run on other machines in production.
        allowed = stack.enter_context(real_time_priority(server.pid, *pids))
        for scorer, topics in programs.values():
            _turn(bench, scorer.pid, topics, seed=0)  # the first calls of a connection are slow
        for seed in range(1, options.rounds + 1):
            for name, (scorer, topics) in programs.items():
                turn, report = _turn(bench, scorer.pid, topics, seed)
                turns[name].append(turn)
                wrong += faults(report)
                bench.console.print(
                    f"round {seed}, {name}: {turn.cpu:.2f} ms of CPU per request in the scorer,"
                    f" {turn.server_cpu:.2f} in the model server; call p50 {turn.predict:.2f} ms,"
                    f" scoring p50 {turn.scoring:.2f} ms"
                )
    settings = {
        "model_server": server.version,
        "candidates": options.candidates,
        "rounds": options.rounds,
        "rate": RATE,
        "scorer_and_model_server_ahead": allowed,
        "overridden": dict(OVERRIDDEN),
    }
    write("protocols", [*_figures(turns), Figure("faults", wrong, "requests", "<=", 0)], settings, options.out)


def _turn(bench: Bench, scorer: int, topics: Topics, seed: int) -> tuple[Turn, TrafficReport]:
    factory = RequestFactory(bench.world, candidates=bench.options.candidates, seed=seed, prefix=f"turn{seed}-")
    programs = [psutil.Process(pid) for pid in (scorer, bench.server.pid)]
    before = [sum(program.cpu_times()[:2]) for program in programs]
    report = run_traffic(bench.bootstrap, topics, factory, rate=RATE, seconds=bench.options.seconds / 2)
    used = [sum(program.cpu_times()[:2]) - at for program, at in zip(programs, before, strict=True)]
    stages = report.times.stage_ms
    cpu, server_cpu = (1e3 * seconds / max(1, report.answered) for seconds in used)
    return Turn(cpu, server_cpu, percentile(stages["predict"], 50), percentile(stages["total"], 50)), report


def _figures(turns: Mapping[str, list[Turn]]) -> list[Figure]:
    names = {
        "cpu": "cpu_per_request",
        "server_cpu": "server_cpu_per_request",
        "predict": "call_p50",
        "scoring": "scoring_p50",
    }
    figures = []
    for field, name in names.items():
        of = {protocol: [float(getattr(turn, field)) for turn in found] for protocol, found in turns.items()}
        figures += [Figure(f"{protocol}_{name}", statistics.median(values), "ms") for protocol, values in of.items()]
        ratio = statistics.median(rest / grpc for rest, grpc in zip(of["rest"], of["grpc"], strict=True))
        figures.append(Figure(f"rest_over_grpc_{name}", ratio, "ratio"))
    return figures
