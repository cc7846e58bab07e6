"""Resources of the chaos scenarios: proxy, model server, scorer, traffic, common bounds."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import psutil

from benchmarks.bench import Bench, Service
from benchmarks.figures import sent_at
from benchmarks.report import Figure
from sandbox.broker.topics import Topics
from sandbox.host.tcp_proxy import TcpProxy
from sandbox.processes.model_server import ModelServerProcess
from sandbox.processes.scorer import ScorerProcess
from sandbox.traffic.checker import STATUSES
from sandbox.traffic.report import TrafficReport
from sandbox.traffic.run import run_traffic
from sandbox.world.bid_requests import RequestFactory

BETWEEN_S = 3.0
"""Seconds of traffic before, between and after faults."""
OUTAGE_S = 20.0
RECOVERY_S = 60.0
SAMPLES = 60
"""Number of samples of the scorer's memory in a scenario that watches it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of the command line.

    Attributes:
        rate: requests per second.
        times: repetitions of a fault.
        seconds: duration of the soak.
        budget_ms: budget of each request.
    """

    rate: float
    times: int
    seconds: float
    budget_ms: float
    guarantee: Literal["at_least_once", "exactly_once"]


class Watched(NamedTuple):
    """The report of traffic, and SAMPLES of the scorer's memory and of descriptors plus threads."""

    report: TrafficReport
    resident: list[int]
    handles: list[int]


class Chaos:
    """The shared resources.

    `proxy` is between the broker and those scorers that connect through it.
    """

    def __init__(self, bench: Bench, settings: Settings, proxy: TcpProxy) -> None:
        self.bench, self.settings, self.proxy = bench, settings, proxy

    @contextmanager
    def scene(
        self, name: str, *, headroom: float = 4.0, broker_by_proxy: bool = False, model_by_proxy: bool = False
    ) -> Iterator["Scene"]:
        """Model server, topics and a ready scorer; all are stopped at the end of the block.

        The model server can score `headroom` times the rate.
        """
        bench = self.bench
        topics = bench.topics(f"{name}-{self.settings.guarantee}")
        service = Service.of_capacity(headroom * self.settings.rate, bench.options.candidates, 4)
        with bench.simulated(service) as server, TcpProxy(server.port) as to_server:
            found = bench.settings(
                topics,
                [to_server.address if model_by_proxy else server.address],
                {
                    "kafka.bootstrap_servers": self.proxy.address if broker_by_proxy else bench.bootstrap,
                    "delivery.guarantee": self.settings.guarantee,
                    "source.budget_ms": self.settings.budget_ms,
                    "source.max_budget_ms": max(60_000.0, self.settings.budget_ms),
                    # Static membership: a restarted scorer gets its partitions without a rebalance.
                    "kafka.group_instance_id": "first",
                },
            )
            with ScorerProcess(found, bench.work / f"{name}.log") as scorer:
                yield Scene(self, name, topics, found, server, to_server, scorer)


@dataclass(slots=True)
class Scene:
    """The processes and topics of one scenario."""

    chaos: Chaos
    name: str
    topics: Topics
    overridden: Mapping[str, object]
    server: ModelServerProcess
    to_server: TcpProxy
    scorer: ScorerProcess
    _runs: int = 0

    def traffic(
        self, meanwhile: Callable[[], None] | None = None, *, seconds: float = 0.0, times_rate: float = 1.0
    ) -> TrafficReport:
        """Sends traffic while `meanwhile` runs, or for `seconds`, and waits for missing answers."""
        bench, settings = self.chaos.bench, self.chaos.settings
        self._runs += 1
        factory = RequestFactory(
            bench.world, candidates=bench.options.candidates, seed=self._runs, prefix=f"{self.name}-{self._runs}"
        )
        return run_traffic(
            bench.bootstrap, self.topics, factory, rate=times_rate * settings.rate, seconds=seconds, meanwhile=meanwhile
        )

    def watch(self, seconds: float, *, times_rate: float = 1.0) -> Watched:
        """Sends traffic for `seconds` and samples the resources of the scorer's process."""
        process = psutil.Process(self.scorer.pid)
        resident: list[int] = []
        handles: list[int] = []

        def sample() -> None:
            for _ in range(SAMPLES):
                time.sleep(seconds / SAMPLES)
                resident.append(process.memory_info().rss)
                handles.append(process.num_fds() + process.num_threads())

        return Watched(self.traffic(sample, times_rate=times_rate), resident, handles)

    def repeat(self, fault: Callable[[], None]) -> Callable[[], None]:
        """A function that repeats the fault `times` times, with traffic before, between and after."""

        def faults() -> None:
            for i in range(self.chaos.settings.times):
                time.sleep(BETWEEN_S)
                self.chaos.bench.console.print(f"{self.name}: {i + 1} of {self.chaos.settings.times}")
                fault()
            time.sleep(BETWEEN_S)

        return faults

    def seconds_to_recover(self, times_rate: float = 1.0) -> float:
        """Seconds until all requests of one second are scored, to about 1 s; NaN after a minute."""
        began = time.monotonic()
        while (now := time.monotonic()) - began < RECOVERY_S:
            report = self.traffic(seconds=1.0, times_rate=times_rate)
            if set(report.statuses) == {"ok"}:
                return now - began
        return float("nan")


def delivered(report: TrafficReport, *, duplicates: bool) -> list[Figure]:
    """Figures of every scenario; `duplicates`: the guarantee permits them."""
    return [
        Figure("sent", report.requests_sent, "requests"),
        Figure("answered", report.answered, "requests"),
        Figure("dead_lettered", report.dead_lettered, "requests"),
        Figure("lost", report.lost, "requests", "<=", 0),
        Figure("duplicates", report.duplicates, "answers", *(() if duplicates else ("<=", 0))),
        Figure("wrong", sum(report.wrong.values()) + report.unknown, "answers", "<=", 0),
        Figure("scored", report.statuses.get("ok", 0), "requests"),
    ]


def last_unscored(report: TrafficReport, since: float) -> float:
    """Seconds from `since` (monotonic) to the last request that was not fully scored, or 0."""
    unscored = sent_at(report.times)[report.times.status != STATUSES.index("ok")]
    return max(0.0, float(unscored.max(initial=since)) - since)
