"""What the scenarios share: a broker behind a proxy, a model server, a scorer, traffic, and what must hold of it."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import psutil

from benchmarks.common import Bench, Service
from benchmarks.figures import sent_at
from benchmarks.report import Figure
from sandbox.checker import STATUSES
from sandbox.drive import Topics, drive
from sandbox.model_server.process import ModelServerProcess
from sandbox.proxy import Proxy
from sandbox.ranker import TrafficReport
from sandbox.requests import RequestFactory
from sandbox.scorer import ScorerProcess

BETWEEN_S = 3.0
"""Traffic before, between and behind faults."""
OUTAGE_S = 20.0
RECOVERY_S = 60.0
SAMPLES = 60
"""Of the scorer's memory, in a scenario that watches it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says.

    Attributes:
        rate: requests a second.
        times: how often a fault is repeated.
        seconds: how long the soak lasts.
        budget_ms: of each request.
    """

    rate: float
    times: int
    seconds: float
    budget_ms: float
    guarantee: Literal["at_least_once", "exactly_once"]


class Watched(NamedTuple):
    """What came of traffic, and SAMPLES of the scorer meanwhile: bytes resident, descriptors and threads."""

    report: TrafficReport
    resident: list[int]
    handles: list[int]


class Chaos:
    """What the scenarios share. `proxy` stands between the broker and the scorers that are told to go through it."""

    def __init__(self, bench: Bench, settings: Settings, proxy: Proxy) -> None:
        self.bench, self.settings, self.proxy = bench, settings, proxy

    @contextmanager
    def scene(
        self, name: str, *, headroom: float = 4.0, broker_by_proxy: bool = False, model_by_proxy: bool = False
    ) -> Iterator["Scene"]:
        """A model server that scores `headroom` times the rate, topics and a scorer that is ready; all ended with the
        block.
        """
        bench = self.bench
        topics = bench.topics(f"{name}-{self.settings.guarantee}")
        service = Service.of_capacity(headroom * self.settings.rate, bench.options.candidates, 4)
        with bench.simulated(service) as server, Proxy(server.port) as to_server:
            found = bench.settings(
                topics,
                [to_server.address if model_by_proxy else server.address],
                {
                    "kafka.bootstrap_servers": self.proxy.address if broker_by_proxy else bench.bootstrap,
                    "delivery.guarantee": self.settings.guarantee,
                    "source.budget_ms": self.settings.budget_ms,
                    "source.max_budget_ms": max(60_000.0, self.settings.budget_ms),
                    # Who comes back under its name has its partitions at once.
                    "kafka.group_instance_id": "first",
                },
            )
            with ScorerProcess(found, bench.work / f"{name}.log") as scorer:
                yield Scene(self, name, topics, found, server, to_server, scorer)


@dataclass(slots=True)
class Scene:
    """One scenario's parts."""

    chaos: Chaos
    name: str
    topics: Topics
    overridden: Mapping[str, object]
    server: ModelServerProcess
    to_server: Proxy
    scorer: ScorerProcess
    _drives: int = 0

    def drive(
        self, meanwhile: Callable[[], None] | None = None, *, seconds: float = 0.0, times_rate: float = 1.0
    ) -> TrafficReport:
        """Traffic while `meanwhile` runs, or for `seconds`, and until nothing is missing or nothing more comes."""
        bench, settings = self.chaos.bench, self.chaos.settings
        self._drives += 1
        factory = RequestFactory(
            bench.world, candidates=bench.options.candidates, seed=self._drives, prefix=f"{self.name}-{self._drives}"
        )
        return drive(
            bench.bootstrap, self.topics, factory, rate=times_rate * settings.rate, seconds=seconds, meanwhile=meanwhile
        )

    def watch(self, seconds: float, *, times_rate: float = 1.0) -> Watched:
        """Traffic for `seconds`, and what the scorer's process holds meanwhile."""
        process = psutil.Process(self.scorer.pid)
        resident: list[int] = []
        handles: list[int] = []

        def sample() -> None:
            for _ in range(SAMPLES):
                time.sleep(seconds / SAMPLES)
                resident.append(process.memory_info().rss)
                handles.append(process.num_fds() + process.num_threads())

        return Watched(self.drive(sample, times_rate=times_rate), resident, handles)

    def repeat(self, fault: Callable[[], None]) -> Callable[[], None]:
        """The fault as often as was asked for, with traffic before, between and behind."""

        def faults() -> None:
            for i in range(self.chaos.settings.times):
                time.sleep(BETWEEN_S)
                self.chaos.bench.console.print(f"{self.name}: {i + 1} of {self.chaos.settings.times}")
                fault()
            time.sleep(BETWEEN_S)

        return faults

    def seconds_to_recover(self, times_rate: float = 1.0) -> float:
        """Until all requests of a second are scored again, to about a second; NaN if that takes over a minute."""
        began = time.monotonic()
        while (now := time.monotonic()) - began < RECOVERY_S:
            report = self.drive(seconds=1.0, times_rate=times_rate)
            if set(report.statuses) == {"ok"}:
                return now - began
        return float("nan")


def delivered(report: TrafficReport, *, duplicates: bool) -> list[Figure]:
    """What every scenario must show; `duplicates` where the guarantee allows them."""
    return [
        Figure("sent", report.requests_sent, "requests"),
        Figure("answered", report.answered, "requests"),
        Figure("dead_lettered", report.buried, "requests"),
        Figure("lost", report.lost, "requests", "<=", 0),
        Figure("duplicates", report.duplicates, "answers", *(() if duplicates else ("<=", 0))),
        Figure("wrong", sum(report.wrong.values()) + report.unknown, "answers", "<=", 0),
        Figure("scored", report.statuses.get("ok", 0), "requests"),
    ]


def last_unscored(report: TrafficReport, since: float) -> float:
    """Seconds from `since` (monotonic) to when the last request was sent that was not scored as a whole, at least 0."""
    unscored = sent_at(report.times)[report.times.status != STATUSES.index("ok")]
    return max(0.0, float(unscored.max(initial=since)) - since)
