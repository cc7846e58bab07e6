"""Latency of scoring with and without changes of ads: one scorer, open loop, in turns.

As a program it changes the ads until its input ends: in the process of sender and ranker it would delay both.
"""

import argparse
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
from confluent_kafka import Producer

from benchmarks import ads
from benchmarks.bench import Bench
from benchmarks.bounds import bound_of
from benchmarks.figures import faults, percentile
from benchmarks.report import Figure
from sandbox.broker.topics import Topics
from sandbox.host.parent import parent_bound_command
from sandbox.host.priority import real_time_priority
from sandbox.processes.scorer import ScorerProcess
from sandbox.traffic.run import run_traffic
from sandbox.traffic.schedule import arrival_times, run_schedule
from sandbox.world.ad_changes import AdChanges
from sandbox.world.bid_requests import RequestFactory
from sandbox.world.world import World

TOPIC = "ads-changing"
SHARE = 0.3
"""Of the saturation."""
CHANGES_PER_S = 1000
KINDS = ("quiet", "changing")
_WARM_UP_S = 3.0
_DRAWN = 20_000
_TICKS_PER_S = 100


@dataclass(frozen=True, slots=True)
class Turn:
    """One round's traffic.

    Attributes:
        p50, p99: of scoring, in ms.
        changes: that the scorer has applied per second of traffic.
        faults: lost, wrong and duplicate answers.
    """

    p50: float
    p99: float
    changes: float
    faults: int


def measure(bench: Bench, rate: float) -> Mapping[str, Sequence[Turn]]:
    """Traffic of `rate` requests/s by id; scorer and model server have priority."""
    # As many ads are unknown before the first change as later.
    catalogue = ((change.key, change.value) for change in AdChanges(bench.world).catalogue())
    ads.fill_topic(bench, TOPIC, catalogue)
    topics = bench.topics("changing")
    turns: dict[str, list[Turn]] = {kind: [] for kind in KINDS}
    with ads.by_id(TOPIC) as overridden:
        settings = bench.settings(topics, [bench.server.address], overridden)
        with ScorerProcess(settings, bench.work / "changing.log") as scorer:
            _turn(bench, topics, scorer, rate=rate, name="warm-up", seconds=_WARM_UP_S)
            for number in range(bench.options.rounds):
                for kind in KINDS if number % 2 == 0 else reversed(KINDS):
                    found = _turn(
                        bench, topics, scorer, rate=rate, name=f"{kind}-{number}", seconds=bench.options.seconds
                    )
                    turns[kind].append(found)
                    bench.console.print(
                        f"round {number + 1}, {kind}: scoring p50 {found.p50:.1f}, p99 {found.p99:.1f} ms, "
                        f"{found.changes:.0f} changes/s"
                    )
    return turns


def _turn(bench: Bench, topics: Topics, scorer: ScorerProcess, *, rate: float, name: str, seconds: float) -> Turn:
    world = bench.world
    seed = sum(name.encode())
    factory = RequestFactory(world, candidates=bench.options.candidates, seed=seed, layout="id", prefix=name)
    is_changing = name.startswith("changing")
    with (
        _changed_ads(bench.bootstrap, world) if is_changing else nullcontext(),
        real_time_priority(scorer.pid, bench.server.pid),
    ):
        before = _changes(scorer)
        report = run_traffic(bench.bootstrap, topics, factory, rate=rate, seconds=seconds)
        changes = (_changes(scorer) - before) / seconds
    times = report.times.stage_ms["total"]
    return Turn(percentile(times, 50), percentile(times, 99), changes, faults(report))


def _changes(scorer: ScorerProcess) -> float:
    return sum(scorer.metric("streamer_table_changes_total", outcome=outcome) for outcome in ("stored", "deleted"))


@contextmanager
def _changed_ads(bootstrap: str, world: World) -> Iterator[None]:
    """A process that changes ads, from the first change on."""
    command = [sys.executable, "-m", "benchmarks.changing_ads", bootstrap, str(world.seed)]
    with subprocess.Popen(parent_bound_command(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.stdin.close()


def figures_of(turns: Mapping[str, Sequence[Turn]]) -> list[Figure]:
    """Medians of the rounds; the ratio is that of the medians."""

    def median(kind: str, figure: str) -> float:
        return float(statistics.median(getattr(turn, figure) for turn in turns[kind]))

    name = "changing_p99_over_quiet"
    ratio = median("changing", "p99") / median("quiet", "p99")
    return [
        Figure(name, ratio, "ratio", *bound_of("tables", name)),
        *(Figure(f"{kind}_scoring_{q}", median(kind, q), "ms") for kind in KINDS for q in ("p50", "p99")),
        Figure("changes_per_second", median("changing", "changes"), "ads/s"),
        Figure("faults", sum(turn.faults for of in turns.values() for turn in of), "requests", "<=", 0),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bootstrap")
    parser.add_argument("seed", type=int)
    arguments = parser.parse_args()
    changes = AdChanges(World(seed=arguments.seed))
    drawn = cycle([changes.next() for _ in range(_DRAWN)])
    producer = Producer({"bootstrap.servers": arguments.bootstrap, "partitioner": "murmur2_random"})
    ended = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        ended.set()

    def send(_: float) -> None:
        for change in islice(drawn, CHANGES_PER_S // _TICKS_PER_S):
            producer.produce(TOPIC, change.value, change.key)
        producer.poll(0)

    threading.Thread(target=wait_for_end, daemon=True).start()
    print("ready", flush=True)
    dues = arrival_times(_TICKS_PER_S, 0.0, "uniform", np.random.default_rng(0))
    run_schedule(dues, send, clock=time.monotonic, wait=ended.wait)
    producer.flush(10)


if __name__ == "__main__":
    main()
