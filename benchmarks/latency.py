"""Scoring and end-to-end latency of scorer and floor at a fixed rate (open loop)."""

import os
import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass

from benchmarks.bench import UNHURRIED, Bench
from benchmarks.bounds import bound_of
from benchmarks.figures import faults, percentile
from benchmarks.programs import CpuClock, program
from benchmarks.report import Figure, write
from sandbox.broker.topics import Topics
from sandbox.host.priority import real_time_priority
from sandbox.processes.scorer import ScorerProcess
from sandbox.traffic.run import run_traffic
from sandbox.world.bid_requests import RequestFactory

RATE = 145.0
"""Requests per second: 30 % of what version 0.2 processed on two cores."""
PRIORITIES = ("ahead", "equals")
"""Scorer and model server before the other processes, as if these ran on other machines; and all alike."""
PROGRAMS = ("floor", "scorer")
MIN_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Turn:
    """One program's traffic in one round; times in ms.

    Attributes:
        scoring: percentiles by name, from the receipt of a record to its answer.
        whole: the same from the intended send time to the receipt of the answer.
        cpu: CPU time per request by process.
        faults: lost, wrong and duplicate answers.
    """

    scoring: Mapping[str, float]
    whole: Mapping[str, float]
    cpu: Mapping[str, float]
    faults: int


def run(bench: Bench) -> None:
    """Scorer and floor in turns, each with priority and as an equal of the other processes."""
    options, rounds = bench.options, max(MIN_ROUNDS, bench.options.rounds)
    topics = {name: bench.topics(f"latency-{name}") for name in PROGRAMS}
    turns: dict[tuple[str, str], list[Turn]] = {(how, name): [] for how in PRIORITIES for name in PROGRAMS}
    allowed = True
    with ExitStack() as stack:
        settings = bench.settings(topics["scorer"], [bench.server.address], UNHURRIED)
        scorer = stack.enter_context(ScorerProcess(settings, bench.work / "latency.log"))
        arguments = bench.arguments(topics["floor"].requests, topics["floor"].scores)
        floor = stack.enter_context(program("benchmarks.floor", arguments, bench.work / "latency-floor.log"))
        pids = {"scorer": scorer.pid, "floor": floor}
        for name in PROGRAMS:
            _turn(bench, topics[name], pids[name], f"{name}-warm-up")
        for turn in range(rounds):
            for how in PRIORITIES:
                for name in PROGRAMS:
                    ahead = real_time_priority(pids[name], bench.server.pid) if how == "ahead" else nullcontext(True)
                    with ahead as given:
                        found = _turn(bench, topics[name], pids[name], f"{how}-{name}-{turn}")
                    allowed &= given
                    turns[how, name].append(found)
                    bench.console.print(
                        f"round {turn + 1}, {how}, {name}: scoring p50 {found.scoring['p50']:.1f}, p99"
                        f" {found.scoring['p99']:.1f} ms; end to end p99 {found.whole['p99']:.1f} ms"
                    )
    shown = {
        "model_server": bench.server.version,
        "candidates": options.candidates,
        "seconds": options.seconds,
        "rounds": rounds,
        "rate": RATE,
        "scorer_and_model_server_ahead": allowed,
        "overridden": dict(UNHURRIED),
    }
    write("latency", figures_of(turns), shown, options.out)


def _turn(bench: Bench, topics: Topics, pid: int, prefix: str) -> Turn:
    seed = sum(prefix.encode())
    factory = RequestFactory(bench.world, candidates=bench.options.candidates, seed=seed, prefix=prefix)
    processes = {"program": pid, **bench.others, "bidder_and_ranker": os.getpid()}
    clocks = {name: CpuClock(one) for name, one in processes.items()}
    report = run_traffic(bench.bootstrap, topics, factory, rate=RATE, seconds=bench.options.seconds)
    cpu = {name: 1e3 * clock.spent_s() / max(1, report.answered) for name, clock in clocks.items()}
    scoring, whole = (
        {f"p{q:g}".replace(".", ""): percentile(times, q) for q in (50, 99, 99.9)}
        for times in (report.times.stage_ms["total"], report.times.since_due_ms)
    )
    return Turn(scoring, whole, cpu, faults(report))


def figures_of(turns: Mapping[tuple[str, str], Sequence[Turn]]) -> list[Figure]:
    """Medians of the rounds; ratios of medians."""
    figures = []
    for how in PRIORITIES:
        p99 = {name: statistics.median(turn.scoring["p99"] for turn in turns[how, name]) for name in PROGRAMS}
        name = f"{how}_p99_over_floor"
        figures.append(Figure(name, p99["scorer"] / p99["floor"], "ratio", *bound_of("latency", name)))
    for (how, program_name), of in turns.items():
        name = f"{how}_{program_name}"
        for key in of[0].scoring:
            value = statistics.median(turn.scoring[key] for turn in of)
            figures.append(Figure(f"{name}_{key}", value, "ms", *bound_of("latency", f"{name}_{key}")))
        for key in of[0].whole:
            value = statistics.median(turn.whole[key] for turn in of)
            figures.append(Figure(f"{name}_end_to_end_{key}", value, "ms"))
        for process in of[0].cpu:
            value = statistics.median(turn.cpu[process] for turn in of)
            figures.append(Figure(f"{name}_{process}_cpu", value, "ms"))
    wrong = sum(turn.faults for of in turns.values() for turn in of)
    return [*figures, Figure("faults", wrong, "requests", "<=", 0)]
