"""Resources of the chaos scenarios: proxy, model server, scorer, traffic, common bounds."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import psutil

from benchmarks.bench import Bench, Service
from benchmarks.chaos.excess import EventRun, Partitions, Window
from benchmarks.figures import sent_at
from benchmarks.report import Figure
from sandbox.broker.cluster import KafkaCluster
from sandbox.broker.kafka import KafkaBroker
from sandbox.broker.topics import Topics
from sandbox.host.tcp_proxy import TcpProxy
from sandbox.processes.model_server import ModelServerProcess
from sandbox.processes.scorer import ScorerProcess
from sandbox.traffic.checker import STATUSES, Checker
from sandbox.traffic.report import TrafficReport
from sandbox.traffic.run import run_traffic
from sandbox.world.bid_requests import RequestFactory

WARM_UP_S = 4.0
"""Seconds of traffic before the measured windows: caches and latency models fill."""
BETWEEN_S = 3.0
"""Seconds of traffic before, between and after faults."""
OUTAGE_S = 20.0
RECOVERY_S = 60.0
PROMPT = Service(fixed_ms=0.6, per_row_us=9.0, workers=2)
"""A model server as fast as TensorFlow Serving on one core: 1 ms for 50 rows, 5 ms for 500."""
SAMPLES = 60
"""Number of samples of the scorer's memory in a scenario that watches it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of the command line.

    Attributes:
        rate: requests per second, with `candidates` candidates each.
        times: repetitions of a fault, or runs of a scenario whose median decides.
        seconds: duration of the soak.
        budget_ms: budget of each request.
        seed: of the first plan.
    """

    rate: float
    candidates: int
    times: int
    seconds: float
    budget_ms: float
    guarantee: Literal["at_least_once", "exactly_once"]
    seed: int = 0


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

    @property
    def may_duplicate(self) -> bool:
        """Whether the guarantee permits duplicate answers."""
        return self.settings.guarantee == "at_least_once"

    def bound(self, value: float) -> float | None:
        """The bound of a figure that has none with `exactly_once`."""
        return value if self.settings.guarantee == "at_least_once" else None

    @contextmanager
    def scene(
        self,
        name: str,
        *,
        headroom: float = 4.0,
        service: Service | None = None,
        partitions: int = 4,
        broker: KafkaBroker | KafkaCluster | None = None,
        broker_by_proxy: bool = False,
        model_by_proxy: bool = False,
        overridden: Mapping[str, object] | None = None,
    ) -> Iterator["Scene"]:
        """Model server, topics and a ready scorer; all are stopped at the end of the block.

        Args:
            headroom: the model server can score this many times the rate, in full batches.
            service: the model server's times instead, such as `PROMPT`.
            broker: None: the bench's broker.
            overridden: settings of the scorer, by dotted name. Default: static membership, so that a restarted scorer
                gets its partitions without a rebalance.
        """
        bench = self.bench
        bootstrap = bench.bootstrap if broker is None else broker.internal_servers
        topics = bench.topics(f"{name}-{self.settings.guarantee}", partitions, broker)
        by_rate = Service.of_capacity(headroom * self.settings.rate, self.settings.candidates, 4)
        with bench.simulated(service or by_rate) as server, TcpProxy(server.port) as to_server:
            found = bench.settings(
                topics,
                [to_server.address if model_by_proxy else server.address],
                {
                    "kafka.bootstrap_servers": self.proxy.address if broker_by_proxy else bootstrap,
                    "delivery.guarantee": self.settings.guarantee,
                    "source.budget_ms": self.settings.budget_ms,
                    "source.max_budget_ms": max(60_000.0, self.settings.budget_ms),
                    **({"kafka.group_instance_id": "first"} if overridden is None else overridden),
                },
            )
            with ScorerProcess(found, bench.work / f"{name}.log") as scorer:
                yield Scene(self, name, bootstrap, topics, partitions, found, server, to_server, scorer)


@dataclass(slots=True)
class Scene:
    """The processes and topics of one scenario."""

    chaos: Chaos
    name: str
    bootstrap: str
    topics: Topics
    partitions: int
    overridden: Mapping[str, object]
    server: ModelServerProcess
    to_server: TcpProxy
    scorer: ScorerProcess
    _runs: int = 0

    def traffic(
        self,
        meanwhile: Callable[[], None] | None = None,
        *,
        seconds: float = 0.0,
        times_rate: float = 1.0,
        checker: Checker | None = None,
    ) -> TrafficReport:
        """Sends traffic while `meanwhile` runs, or for `seconds`, and waits for missing answers.

        Args:
            checker: checks the answers; it can be read meanwhile.
        """
        bench, settings = self.chaos.bench, self.chaos.settings
        self._runs += 1
        factory = RequestFactory(
            bench.world, candidates=settings.candidates, seed=self._runs, prefix=f"{self.name}-{self._runs}"
        )
        return run_traffic(
            self.bootstrap,
            self.topics,
            factory,
            rate=times_rate * settings.rate,
            seconds=seconds,
            meanwhile=meanwhile,
            checker=checker,
        )

    def around(
        self,
        event: Callable[[], Partitions],
        *,
        window_s: float,
        warm_up_s: float = WARM_UP_S,
        before_s: float = 1.0,
        times_rate: float = 1.0,
    ) -> EventRun:
        """Sends traffic for `window_s` without the event, then with it.

        The warm-up before counts in neither.

        Args:
            event: called `before_s` after the start of its window; returns the partitions that it hits directly.

        Raises:
            RuntimeError: the event lasted longer than its window.
        """
        middle = ended = 0.0
        affected: Partitions = ()

        def meanwhile() -> None:
            nonlocal affected, middle, ended
            time.sleep(warm_up_s + window_s)
            middle = time.monotonic()
            time.sleep(before_s)
            affected = event()
            ended = time.monotonic()
            time.sleep(max(0.0, middle + window_s - ended))

        report = self.traffic(meanwhile, times_rate=times_rate)
        if ended > middle + window_s:
            raise RuntimeError(f"{self.name}: the event lasted {ended - middle:.1f} s, its window only {window_s:g} s")
        return EventRun(report, Window(middle - window_s, middle), Window(middle, middle + window_s), affected)

    def say_run(self, number: int, text: str, report: TrafficReport) -> None:
        """Prints the result of one run, 0 is the first, with its answers by status and reason."""
        self.chaos.bench.console.print(
            f"{self.name}: run {number + 1} of {self.chaos.settings.times}: {text}; {report.lost} lost, "
            f"{report.duplicates} duplicates; {dict(report.statuses)} {dict(report.reasons) or ''}",
            markup=False,
            soft_wrap=True,
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
