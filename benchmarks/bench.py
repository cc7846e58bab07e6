"""Resources of the scenarios: world, trained model, broker, model servers, scorer settings."""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from benchmarks.programs import Run, follow, scorer
from sandbox.broker.cluster import KafkaCluster
from sandbox.broker.kafka import KafkaBroker
from sandbox.broker.topics import Topics
from sandbox.host.ports import free_ports
from sandbox.processes.model_server import ONE_THREAD_PER_CALL, ModelServerProcess
from sandbox.traffic.sender import RequestSource, Sender
from sandbox.traffic.sent_requests import SentRequests
from sandbox.world.bid_requests import CandidatesBy, RequestFactory
from sandbox.world.world import World
from streamer.settings.sections import BatchingSettings

SPEC, MODEL_CONFIG, MODEL = "configs/features/reference.yaml", "configs/models/wide_deep.yaml", "ctr"
_DAY_MS = 86_400_000
# The model scores every request, however old it is, and the cache is off. Scenarios share backlogs: with a budget of 10
# minutes the last ones of a run would find requests that are too old.
UNHURRIED: Mapping[str, object] = {
    "source.budget_ms": _DAY_MS,
    "source.max_budget_ms": _DAY_MS,
    "cache.enabled": False,
}
_BACKLOG_PER_SECOND = 240
_FILL_S = 120.0
_FIXED_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the command line.

    Attributes:
        seconds: duration of one measurement.
        rounds: how often compared programs run in turns.
        candidates: candidates per request.
        capacity: requests per second that a simulated model server can score.
        budget_ms: budget of requests under overload.
        out: folder for figures, logs and the model.
    """

    seconds: float = 10.0
    rounds: int = 3
    candidates: int = 300
    capacity: float = 40.0
    budget_ms: float = 1000.0
    out: Path = Path("build/bench")


@dataclass(frozen=True, slots=True)
class Service:
    """A simulated server: `workers` calls at a time, `fixed_ms + per_row_us · rows / 1000` ms."""

    fixed_ms: float
    per_row_us: float
    workers: int

    @classmethod
    def of_capacity(cls, rate: float, candidates: int, workers: int) -> Self:
        """One that scores `rate` requests/s in full batches, a fifth of whose time is fixed."""
        rows = BatchingSettings().batch_rows
        call_ms = 1e3 * workers * rows / candidates / rate
        return cls(_FIXED_SHARE * call_ms, (1 - _FIXED_SHARE) * call_ms * 1e3 / rows, workers)


class Bench:
    """One run of scenarios.

    Slow resources start at their first use, and stop at the end of the run.
    """

    def __init__(self, options: Options, console: Console, broker: KafkaBroker | None = None) -> None:
        self.options, self.console = options, console
        self._broker = broker
        self.work = options.out / "work"
        self.saturated: float | None = None
        self._stack = ExitStack()
        self._names = count()
        self._backlogs: set[str] = set()

    def __enter__(self) -> Self:
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    @cached_property
    def world(self) -> World:
        """The world of all requests and of the model's click log."""
        return World(seed=7)

    @cached_property
    def broker(self) -> KafkaBroker:
        """A running Apache Kafka."""
        self.console.print("starting Kafka ...")
        return self._stack.enter_context(self._broker or KafkaBroker())

    @property
    def bootstrap(self) -> str:
        """Address of the listener that has no proxy and no ACL."""
        return self.broker.internal_servers

    @cached_property
    def model(self) -> Path:
        """Base path of a trained model of the reference spec, version 1; trained once and kept."""
        out = self.options.out
        models = out / "models" / MODEL
        if not (models / "1").exists():
            self.console.print("training a model for the benchmarks (once) ...")
            log = self.world.draw_log(out / "clicks.jsonl", 10_000, 4)
            command = [sys.executable, "-m", "model_training", "train", "--log", str(log.path), "--spec", SPEC]
            command += ["--config", MODEL_CONFIG, "--records", str(out / "records")]
            subprocess.run([*command, "--export-to", str(models), "--version", "1"], check=True)
        return models

    @cached_property
    def server(self) -> ModelServerProcess:
        """The running model server of the sandbox, with that model."""
        model = self.model
        self.console.print("starting the model server ...")
        log = self.work / "model_server.log"
        return self._stack.enter_context(
            ModelServerProcess(model, MODEL, rest_port=free_ports(1)[0], flags=ONE_THREAD_PER_CALL, log_path=log)
        )

    def simulated(self, service: Service, *flags: str) -> ModelServerProcess:
        """A simulated server, not started yet, with further flags."""
        simulated = ("-m", "sandbox.model_server.simulated", "--spec", SPEC, "--workers", str(service.workers))
        times = ("--fixed-ms", f"{service.fixed_ms:.4f}", "--per-row-us", f"{service.per_row_us:.4f}")
        return ModelServerProcess(
            command=(*simulated, *times, *flags),
            log_path=self.work / "simulated.log",
        )

    def topics(self, name: str, partitions: int = 4, broker: KafkaBroker | KafkaCluster | None = None) -> Topics:
        """New topics for one scorer, on this broker instead of the bench's own."""
        topics = Topics(f"{name}-in", f"{name}-out", f"{name}-dead")
        for topic in topics:
            (broker or self.broker).create_topic(topic, partitions)
        return topics

    def settings(self, topics: Topics, addresses: Sequence[str], overridden: Mapping[str, object]) -> dict[str, object]:
        """Settings of a scorer: addresses, topics and `overridden`; the defaults for the others."""
        return {
            # The bench's own broker starts only if it is used.
            "kafka.bootstrap_servers": overridden.get("kafka.bootstrap_servers") or self.bootstrap,
            "kafka.group_id": topics.scores,
            "predictor.addresses": list(addresses),
            "source.topic": topics.requests,
            "sink.topic": topics.scores,
            "sink.dead_letter_topic": topics.dead_letters,
            **overridden,
        }

    def arguments(self, source: str, output: str) -> dict[str, str]:
        """The arguments of a hand-written program."""
        return {
            "bootstrap": self.bootstrap,
            "model-server": self.server.address,
            "input": source,
            "output": output,
            "group": output,
        }

    @property
    def others(self) -> Mapping[str, int]:
        """The processes beside a measured program: model server and broker, by name."""
        return {"model_server": self.server.pid, "broker": self.broker.pid or 0}

    @property
    def backlog_size(self) -> int:
        """Size of the backlog of a program whose rate is unknown."""
        return round(_BACKLOG_PER_SECOND * self.options.seconds)

    def backlog(
        self, size: int, partitions: int = 1, layout: CandidatesBy = "rows", candidates: int | None = None
    ) -> str:
        """A topic with `size` requests; topics with as many candidates start with the same ones."""
        candidates = candidates or self.options.candidates
        topic = f"backlog-{size}-{partitions}-{layout}-{candidates}"
        if topic not in self._backlogs:
            factory = RequestFactory(self.world, candidates=candidates, seed=3, layout=layout, prefix="backlog")
            self.fill_new(topic, factory, size, partitions)
            self._backlogs.add(topic)
        return topic

    def fill_new(self, topic: str, source: RequestSource, size: int, partitions: int = 1) -> None:
        """Creates a topic with `size` requests.

        Raises:
            TimeoutError: as `fill` does.
        """
        self.broker.create_topic(topic, partitions)
        self.fill(topic, source, size)

    def fill(self, topic: str, source: RequestSource, size: int) -> None:
        """Produces `size` requests to a topic, as fast as the broker accepts them.

        Raises:
            TimeoutError: the broker does not accept them in time.
        """
        rate = 1e5
        sender = Sender(
            self.bootstrap,
            topic,
            source,
            rate=rate,
            seconds=size / rate,
            arrival="uniform",
            sent_requests=SentRequests(),
        )
        sender.start()
        if not sender.join(_FILL_S):
            raise TimeoutError(f"{topic} could not be filled in {_FILL_S:.0f} s")

    def process_backlog(
        self,
        source: str,
        requests: int,
        addresses: Sequence[str],
        overridden: Mapping[str, object] = UNHURRIED,
        *,
        status: str = "ok",
        warm_up: int = 0,
        others: Mapping[str, int] | None = None,
        native: bool = True,
    ) -> Run:
        """Runs a new scorer on a backlog, with its own output topic and group.

        Raises:
            TimeoutError, RuntimeError: as `follow` does.
        """
        output = f"{source}-scorer-{next(self._names)}"
        topics = Topics(source, output, f"{output}-dead")
        for topic in topics[1:]:
            self.broker.create_topic(topic, 1)
        settings = self.settings(topics, addresses, overridden)
        with scorer(settings, self.work / f"{output}.log", native=native) as running:
            return follow(running.pid, self.bootstrap, output, requests, status=status, warm_up=warm_up, others=others)

    def saturation(self) -> float:
        """Requests per second that a scorer with the real model server processes; measured once."""
        if self.saturated is None:
            size = self.backlog_size
            self.saturated = self.process_backlog(self.backlog(size), size, [self.server.address]).requests_per_second
            self.console.print(f"saturated: {self.saturated:.0f} requests/s")
        return self.saturated
