"""`make chaos`: faults on purpose while requests come; a reader outside of the scorer says what was lost or came twice.

Each scenario has topics, a group and a scorer of its own. Kafka is real, the model server a simulated one, because what
is scored does not matter here. Figures go to `build/chaos/<scenario>.json`; `docs/reliability.md` says what each must
show.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
from confluent_kafka import Producer
from rich.console import Console

from benchmarks.common import Bench, Options, Service
from benchmarks.report import Figure, write
from sandbox.drive import Topics, drive
from sandbox.model_server.process import ModelServerProcess
from sandbox.ranker import TrafficReport
from sandbox.requests import RequestFactory
from sandbox.scorer import ScorerProcess

OUT = Path("build/chaos")
POISON: tuple[bytes | None, ...] = (
    b"{nonsense",
    b"[1,2]",
    b'"hello"',
    b"null",
    b"",
    None,
    b'{"request_id":17,"candidates":[{"ad_id":"a"}]}',
    b'{"request_id":"\xff","candidates":[]}',
    b"[" * 100_000,
)
"""Records without a request id that an answer could carry."""
_BETWEEN_S = 3.0
_OUTAGE_S = 20.0
_RECOVERY_S = 60.0
_POISON_SHARE = 0.05
_SAMPLES = 60
_WARM_UP = 0.2


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


class Chaos:
    """What the scenarios share."""

    def __init__(self, bench: Bench, settings: Settings) -> None:
        self.bench, self.settings = bench, settings
        self.service = Service.of_capacity(4 * settings.rate, bench.options.candidates, 4)

    @contextmanager
    def scene(self, name: str) -> Iterator["Scene"]:
        """A model server, topics and a scorer that is ready; all ended with the block."""
        bench = self.bench
        topics = bench.topics(f"{name}-{self.settings.guarantee}")
        with bench.simulated(self.service) as server:
            found = bench.settings(
                topics,
                [server.address],
                {
                    "delivery.guarantee": self.settings.guarantee,
                    "source.budget_ms": self.settings.budget_ms,
                    "source.max_budget_ms": max(60_000.0, self.settings.budget_ms),
                    # Who comes back under its name has its partitions at once.
                    "kafka.group_instance_id": "first",
                },
            )
            with ScorerProcess(found, bench.work / f"{name}.log") as scorer:
                yield Scene(self, name, topics, found, server, scorer)


@dataclass(slots=True)
class Scene:
    """One scenario's parts."""

    chaos: Chaos
    name: str
    topics: Topics
    overridden: Mapping[str, object]
    server: ModelServerProcess
    scorer: ScorerProcess
    _drives: int = 0

    def drive(self, meanwhile: Callable[[], None] | None = None, *, seconds: float = 0.0) -> TrafficReport:
        """Traffic while `meanwhile` runs, or for `seconds`, and until nothing is missing or nothing more comes."""
        bench, settings = self.chaos.bench, self.chaos.settings
        self._drives += 1
        factory = RequestFactory(
            bench.world, candidates=bench.options.candidates, seed=self._drives, prefix=f"{self.name}-{self._drives}"
        )
        return drive(bench.bootstrap, self.topics, factory, rate=settings.rate, seconds=seconds, meanwhile=meanwhile)

    def repeat(self, fault: Callable[[], None]) -> Callable[[], None]:
        """The fault as often as was asked for, with traffic before, between and behind."""

        def faults() -> None:
            for i in range(self.chaos.settings.times):
                time.sleep(_BETWEEN_S)
                self.chaos.bench.console.print(f"{self.name}: {i + 1} of {self.chaos.settings.times}")
                fault()
            time.sleep(_BETWEEN_S)

        return faults

    def seconds_to_recover(self) -> float:
        """Until all requests of a second are scored again, to about a second; NaN if that takes over a minute."""
        began = time.monotonic()
        while (now := time.monotonic()) - began < _RECOVERY_S:
            report = self.drive(seconds=1.0)
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


def worker_kill(chaos: Chaos) -> list[Figure]:
    """SIGKILL, and a start anew."""
    with chaos.scene("worker_kill") as scene:

        def fault() -> None:
            scene.scorer.kill()
            scene.scorer.start()

        report = scene.drive(scene.repeat(fault))
    return delivered(report, duplicates=chaos.settings.guarantee == "at_least_once")


def sigterm(chaos: Chaos) -> list[Figure]:
    """A clean end and a start anew: nothing may be repeated either."""
    unclean = 0
    with chaos.scene("sigterm") as scene:

        def fault() -> None:
            nonlocal unclean
            unclean += scene.scorer.stop() != 0
            scene.scorer.start()

        report = scene.drive(scene.repeat(fault))
    return [*delivered(report, duplicates=False), Figure("unclean_ends", unclean, "ends", "<=", 0)]


def broker_stop(chaos: Chaos) -> list[Figure]:
    """The broker is down for 20 seconds."""
    return _broker(chaos, "broker_stop", chaos.bench.broker.stop)


def broker_kill(chaos: Chaos) -> list[Figure]:
    """The broker is killed by SIGKILL."""
    return _broker(chaos, "broker_kill", chaos.bench.broker.kill)


def _broker(chaos: Chaos, name: str, end: Callable[[], None]) -> list[Figure]:
    with chaos.scene(name) as scene:

        def outage() -> None:
            time.sleep(_BETWEEN_S)
            end()
            time.sleep(_OUTAGE_S)
            chaos.bench.broker.start()
            time.sleep(_BETWEEN_S)

        report = scene.drive(outage)
        recovery = scene.seconds_to_recover()
        # The scorer has to get over it by itself.
        alive = scene.scorer.stop() == 0
    duplicates = chaos.settings.guarantee == "at_least_once"
    return [
        *delivered(report, duplicates=duplicates),
        Figure("seconds_to_recover", recovery, "s", "<=", _RECOVERY_S),
        Figure("clean_end", float(alive), "", ">=", 1),
    ]


def model_server(chaos: Chaos) -> list[Figure]:
    """The model server is killed, and later hangs; requests are answered in time all the same, and marked."""
    with chaos.scene("model_server") as scene:

        def kill() -> None:
            time.sleep(_BETWEEN_S)
            scene.server.kill()
            time.sleep(_BETWEEN_S)
            scene.server.restart()
            time.sleep(_BETWEEN_S)

        def hang() -> None:
            time.sleep(_BETWEEN_S)
            scene.server.pause()
            time.sleep(_BETWEEN_S)
            scene.server.resume()
            time.sleep(_BETWEEN_S)

        figures = []
        for what, fault in (("killed", kill), ("hung", hang)):
            report = scene.drive(fault)
            late = float((report.times.latency_ms > 2 * chaos.settings.budget_ms).sum())
            found = [
                *delivered(report, duplicates=False),
                Figure("marked", report.requests_sent - report.statuses.get("ok", 0), "requests", ">=", 1),
                Figure("later_than_two_budgets", late, "requests"),
                Figure("seconds_to_recover", scene.seconds_to_recover(), "s", "<=", 5.0),
            ]
            figures += [Figure(f"{what}_{f.name}", f.value, f.unit, f.relation, f.bound) for f in found]
    return figures


def rebalances(chaos: Chaos) -> list[Figure]:
    """Another member joins and leaves again and again."""
    with chaos.scene("rebalances") as scene:
        other = ScorerProcess(
            {**scene.overridden, "kafka.group_instance_id": "second"}, chaos.bench.work / "rebalances-other.log"
        )

        def fault() -> None:
            other.start()
            other.stop()

        try:
            report = scene.drive(scene.repeat(fault))
        finally:
            other.stop()
    return delivered(report, duplicates=chaos.settings.guarantee == "at_least_once")


def poison(chaos: Chaos) -> list[Figure]:
    """Records that are no requests among those that are: only they are dead-lettered."""
    sent = 0
    with chaos.scene("poison") as scene:
        producer = Producer({"bootstrap.servers": chaos.bench.bootstrap})

        def pour() -> None:
            nonlocal sent
            for _ in range(chaos.settings.times * len(POISON)):
                producer.produce(scene.topics.requests, value=POISON[sent % len(POISON)], key=str(sent).encode())
                producer.poll(0)
                sent += 1
                time.sleep(1 / (_POISON_SHARE * chaos.settings.rate))
            if producer.flush(60):
                raise TimeoutError("the broker does not take the poison")

        report = scene.drive(pour)
    dead = float("nan") if report.dead_letters is None else report.dead_letters
    return [
        *delivered(report, duplicates=False),
        Figure("poison", sent, "records"),
        Figure("poison_without_a_dead_letter", sent - dead, "records", "<=", 0),
        Figure("dead_letters_of_others", dead - sent, "records", "<=", 0),
    ]


def soak(chaos: Chaos) -> list[Figure]:
    """Nothing but time: memory, threads and descriptors stay what they are."""
    seconds = chaos.settings.seconds
    with chaos.scene("soak") as scene:
        process = psutil.Process(scene.scorer.pid)
        resident: list[int] = []
        held: list[int] = []

        def watch() -> None:
            for _ in range(_SAMPLES):
                time.sleep(seconds / _SAMPLES)
                resident.append(process.memory_info().rss)
                held.append(process.num_fds() + process.num_threads())

        report = scene.drive(watch)
    first = round(_WARM_UP * _SAMPLES)
    growth = max(resident[first:]) / resident[first] - 1
    return [
        *delivered(report, duplicates=False),
        Figure("resident_after_warm_up", resident[first] / 2**20, "MiB"),
        Figure("resident_growth", growth, "ratio", "<=", 0.05),
        Figure("descriptors_and_threads_growth", held[-1] - held[first], "", "<=", 2),
    ]


SCENARIOS: Mapping[str, Callable[[Chaos], list[Figure]]] = {
    scenario.__name__: scenario
    for scenario in (worker_kill, sigterm, broker_stop, broker_kill, model_server, rebalances, poison, soak)
}


def main() -> int:
    """Runs the scenarios that are named. Exit status 1 if a bound is not kept."""
    parser = argparse.ArgumentParser(prog="benchmarks.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("scenario", nargs="*", help=f"{', '.join(SCENARIOS)}; all without one")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--times", type=int, default=10, help="how often a fault is repeated")
    parser.add_argument("--seconds", type=float, default=900.0, help="of the soak")
    parser.add_argument("--budget-ms", type=float, default=1000.0)
    parser.add_argument("--guarantee", choices=("at_least_once", "exactly_once"), default="at_least_once")
    parser.add_argument("--out", type=Path, default=OUT)
    said = parser.parse_args()
    chosen = said.scenario or list(SCENARIOS)
    unknown = [name for name in chosen if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {', '.join(map(repr, unknown))}; there are {', '.join(SCENARIOS)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is ended
    settings = Settings(said.rate, said.times, said.seconds, said.budget_ms, said.guarantee)
    broken: list[str] = []
    with Bench(Options(candidates=said.candidates, out=said.out), Console(highlight=False)) as bench:
        chaos = Chaos(bench, settings)
        for name in chosen:
            bench.console.print(f"{name}: {(SCENARIOS[name].__doc__ or '').strip()}", style="bold")
            figures = SCENARIOS[name](chaos)
            known = {key: value for key, value in vars(said).items() if key not in {"scenario", "out"}}
            write(name, figures, known, said.out)
            broken += [f"{name}: {figure.name}" for figure in figures if figure.holds is False]
    for what in broken:
        print(f"does not hold: {what}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
