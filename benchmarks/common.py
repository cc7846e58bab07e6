"""What the scenarios share: a world, a trained model, a broker, model servers, the scorer's settings."""

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
from sandbox.broker import KafkaBroker
from sandbox.drive import Topics
from sandbox.ledger import Ledger
from sandbox.model_server.process import ONE_THREAD_A_CALL, ModelServerProcess
from sandbox.requests import RequestFactory
from sandbox.traffic import Factory, Traffic
from sandbox.world import World
from streamer.settings.sections import BatchingSettings

SPEC, MODEL_CONFIG, MODEL = "configs/features/reference.yaml", "configs/models/wide_deep.yaml", "ctr"
# Every request is scored, however long it takes, and none from the cache.
UNHURRIED: Mapping[str, object] = {
    "source.budget_ms": 600_000,
    "source.max_budget_ms": 600_000,
    "cache.enabled": False,
}
_BACKLOG_A_SECOND = 240
_FILL_S = 120.0
_FIXED_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says.

    Attributes:
        seconds: how long one measurement lasts.
        rounds: how often programs that are compared take turns.
        candidates: of each request.
        capacity: requests a second that a simulated model server can score.
        budget_ms: of requests that may come too late.
        out: where figures, logs and the model are kept.
    """

    seconds: float = 10.0
    rounds: int = 3
    candidates: int = 300
    capacity: float = 40.0
    budget_ms: float = 1000.0
    out: Path = Path("build/bench")


@dataclass(frozen=True, slots=True)
class Service:
    """How long a simulated server takes: `workers` calls at once, each `fixed_ms + per_row_us · rows / 1000` ms."""

    fixed_ms: float
    per_row_us: float
    workers: int

    @classmethod
    def of_capacity(cls, rate: float, candidates: int, workers: int) -> Self:
        """One that scores `rate` requests a second in full batches, a fifth of a full batch's time being fixed."""
        rows = BatchingSettings().max_batch_rows
        call_ms = 1e3 * workers * rows / candidates / rate
        return cls(_FIXED_SHARE * call_ms, (1 - _FIXED_SHARE) * call_ms * 1e3 / rows, workers)


class Bench:
    """One run of some scenarios. What costs time to start starts when first asked for, and ends with the run."""

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
        """The one that all requests, and the model's log, are drawn from."""
        return World(seed=7)

    @cached_property
    def broker(self) -> KafkaBroker:
        """A real one, running."""
        self.console.print("starting Kafka ...")
        return self._stack.enter_context(self._broker or KafkaBroker())

    @property
    def bootstrap(self) -> str:
        """On the listener that no proxy and no lock stands before."""
        return self.broker.internal_servers

    @cached_property
    def model(self) -> Path:
        """The base path of a trained model of the reference spec, version 1; made once and kept."""
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
        """The sandbox's model server with that model, running."""
        model = self.model
        self.console.print("starting the model server ...")
        log = self.work / "model_server.log"
        return self._stack.enter_context(ModelServerProcess(model, MODEL, flags=ONE_THREAD_A_CALL, log_path=log))

    def simulated(self, service: Service) -> ModelServerProcess:
        """A simulated server, not started yet."""
        times = ("--fixed-ms", f"{service.fixed_ms:.4f}", "--per-row-us", f"{service.per_row_us:.4f}")
        return ModelServerProcess(
            command=("-m", "sandbox.model_server.simulated", "--spec", SPEC, *times, "--workers", str(service.workers)),
            log_path=self.work / "simulated.log",
        )

    def topics(self, name: str, partitions: int = 4) -> Topics:
        """New topics for one scorer."""
        topics = Topics(f"{name}-in", f"{name}-out", f"{name}-dead")
        for topic in topics:
            self.broker.create_topic(topic, partitions)
        return topics

    def settings(self, topics: Topics, addresses: Sequence[str], overridden: Mapping[str, object]) -> dict[str, object]:
        """A scorer's: its defaults, but for where things are and what is `overridden`."""
        return {
            "kafka.bootstrap_servers": self.bootstrap,
            "kafka.group_id": topics.scores,
            "predictor.addresses": list(addresses),
            "source.topic": topics.requests,
            "sink.topic": topics.scores,
            "sink.dead_letter_topic": topics.dead_letters,
            **overridden,
        }

    @property
    def backlog_size(self) -> int:
        """Requests that a program has to work off, where its rate is not known beforehand."""
        return round(_BACKLOG_A_SECOND * self.options.seconds)

    def backlog(self, size: int, partitions: int = 1) -> str:
        """A topic with `size` requests; requests of the same number are the same in all of them."""
        topic = f"backlog-{size}-{partitions}"
        if topic not in self._backlogs:
            factory = RequestFactory(self.world, candidates=self.options.candidates, seed=3, prefix="backlog")
            self.fill_new(topic, factory, size, partitions)
            self._backlogs.add(topic)
        return topic

    def fill_new(self, topic: str, factory: Factory, size: int, partitions: int = 1) -> None:
        """Makes a topic that holds `size` requests.

        Raises:
            TimeoutError: as `fill` does.
        """
        self.broker.create_topic(topic, partitions)
        self.fill(topic, factory, size)

    def fill(self, topic: str, factory: Factory, size: int) -> None:
        """Puts `size` requests into a topic, as fast as the broker takes them.

        Raises:
            TimeoutError: the broker does not take them.
        """
        rate = 1e5
        traffic = Traffic(
            self.bootstrap, topic, factory, rate=rate, seconds=size / rate, arrival="uniform", ledger=Ledger()
        )
        traffic.start()
        if not traffic.join(_FILL_S):
            raise TimeoutError(f"{topic} could not be filled in {_FILL_S:.0f} s")

    def work_off(
        self,
        source: str,
        requests: int,
        addresses: Sequence[str],
        overridden: Mapping[str, object] = UNHURRIED,
        *,
        status: str = "ok",
        warm_up: int = 0,
    ) -> Run:
        """A new scorer works off a backlog, with an output topic and a group of its own; `warm_up` as in `follow`.

        Raises:
            TimeoutError, RuntimeError: as `follow` does.
        """
        output = f"{source}-scorer-{next(self._names)}"
        topics = Topics(source, output, f"{output}-dead")
        for topic in topics[1:]:
            self.broker.create_topic(topic, 1)
        with scorer(self.settings(topics, addresses, overridden), self.work / f"{output}.log") as running:
            return follow(running.pid, self.bootstrap, output, requests, status=status, warm_up=warm_up)

    def saturation(self) -> float:
        """Requests a second that a scorer with the real model server works off; measured once."""
        if self.saturated is None:
            size = self.backlog_size
            self.saturated = self.work_off(self.backlog(size), size, [self.server.address]).requests_per_second
            self.console.print(f"saturated: {self.saturated:.0f} requests/s")
        return self.saturated
