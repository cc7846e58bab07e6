"""Compares the simulation with the real system on this machine, with one and two workers."""

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.bench import UNHURRIED, Bench
from benchmarks.delivery import PARTITIONS
from benchmarks.figures import percentile
from benchmarks.latency import RATE
from benchmarks.programs import follow
from benchmarks.report import Figure
from benchmarks.simulation.costs import Costs
from benchmarks.simulation.one_machine import Machine, capacity, run
from sandbox.processes.scorer import ScorerProcess
from sandbox.traffic.run import run_traffic
from sandbox.world.bid_requests import RequestFactory

BOUND = 0.15
COUNTS = (1, 2)
_WARM_UP = 0.25
_WARM_UP_RATE = 200.0


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure: as measured, and as the simulation predicts it."""

    name: str
    unit: str
    measured: float
    predicted: float

    @property
    def difference(self) -> float:
        """The predicted value over the measured one, minus 1."""
        return self.predicted / self.measured - 1

    def figures(self) -> list[Figure]:
        """Both values, and the size of the difference with its bound."""
        return [
            Figure(f"{self.name}_measured", self.measured, self.unit),
            Figure(f"{self.name}_predicted", self.predicted, self.unit),
            Figure(f"{self.name}_difference", abs(self.difference), "ratio", "<=", BOUND),
        ]


def compared(bench: Bench, costs: Costs) -> list[Compared]:
    """Medians of the rounds: capacity, and times at the rate of `latency`.

    One worker and two in turns.
    """
    found: dict[str, list[tuple[float, float]]] = {}

    def add(name: str, measured: float, predicted: float) -> None:
        found.setdefault(name, []).append((measured, predicted))

    for turn in range(bench.options.rounds):
        for count in COUNTS:
            _one(bench, costs, count, turn, add)
    units = {"capacity": "requests/s", "scoring": "ms", "end": "ms"}
    return [
        Compared(name, units[name.split("_")[0]], *(statistics.median(column) for column in zip(*pairs, strict=True)))
        for name, pairs in found.items()
    ]


def table(found: Sequence[Compared]) -> list[list[str]]:
    """The rows of a table, the header first."""
    rows = [["figure", "measured", "predicted", "difference", "within 15 %"]]
    for one in found:
        holds = "yes" if abs(one.difference) <= BOUND else "no"
        values = (f"{value:.4g} {one.unit}" for value in (one.measured, one.predicted))
        rows.append([one.name.replace("_", " "), *values, f"{one.difference:+.0%}", holds])
    return rows


def _one(bench: Bench, costs: Costs, count: int, turn: int, add: Callable[[str, float, float], None]) -> None:
    machine = Machine(workers=count, cores=os.cpu_count() or 1, seed=turn + 1, candidates=bench.options.candidates)
    measured = _capacity(bench, count, turn)
    add(f"capacity_{count}", measured, capacity(machine, costs))
    scoring, whole = _times(bench, count, turn)
    calm = run(Machine(workers=count, cores=machine.cores, rate=RATE, seed=turn + 1), costs).between(2.0, 10.0)
    add(f"scoring_p50_{count}", scoring, calm.scoring_p50_ms)
    add(f"end_to_end_p50_{count}", whole, calm.p50_ms)


def _capacity(bench: Bench, count: int, turn: int) -> float:
    """Requests per second from a backlog that is sent when the workers are ready."""
    name, requests = f"check-{count}-{turn}", bench.backlog_size
    topics = bench.topics(name, PARTITIONS)
    output = f"{name}-scores"  # with one partition, as `follow` reads it
    bench.broker.create_topic(output, 1)
    overridden = {**UNHURRIED, "supervisor.workers": count, "sink.topic": output}
    factory = RequestFactory(bench.world, candidates=bench.options.candidates, seed=turn, prefix=name)
    settings = bench.settings(topics, [bench.server.address], overridden)
    bench.fill(topics.requests, factory, requests)
    with ScorerProcess(settings, bench.work / f"{name}.log") as scorer:
        rate = follow(
            scorer.pid, bench.bootstrap, output, requests, warm_up=round(_WARM_UP * requests)
        ).requests_per_second
    bench.console.print(f"{count} workers: {rate:.0f} requests/s from a backlog")
    return rate


def _times(bench: Bench, count: int, turn: int) -> tuple[float, float]:
    """Medians in ms under open-loop traffic: of scoring, and from the send to the receipt."""
    name, seconds = f"check-times-{count}-{turn}", bench.options.seconds
    topics = bench.topics(name, PARTITIONS)
    overridden = {**UNHURRIED, "supervisor.workers": count}
    settings = bench.settings(topics, [bench.server.address], overridden)

    def factory(prefix: str) -> RequestFactory:
        return RequestFactory(bench.world, candidates=bench.options.candidates, seed=len(prefix), prefix=prefix)

    with ScorerProcess(settings, bench.work / f"{name}.log"):
        run_traffic(bench.bootstrap, topics, factory("warm"), rate=_WARM_UP_RATE, seconds=seconds / 2)
        report = run_traffic(bench.bootstrap, topics, factory("measured"), rate=RATE, seconds=seconds)
    scoring, whole = (percentile(times, 50) for times in (report.times.stage_ms["total"], report.times.latency_ms))
    bench.console.print(f"{count} workers at {RATE:.0f} requests/s: scoring {scoring:.1f}, in all {whole:.1f} ms (p50)")
    return scoring, whole
