"""A million ads in a real topic: first load of a scorer with four workers, later starts."""

import statistics
import time
from collections.abc import Iterator, Mapping

import orjson
import psutil

from benchmarks import ads
from benchmarks.bench import UNHURRIED, Bench
from benchmarks.bounds import bound_of
from benchmarks.programs import cpu_s
from benchmarks.report import Figure, write
from benchmarks.table_memory import ADS, PROCESSES, pss_of
from sandbox.broker.topics import Topics
from sandbox.processes.scorer import ScorerProcess
from sandbox.world.world import World

TOPIC = "ads-catalogue"
_TIMEOUT_S = 900.0


def run(bench: Bench) -> None:
    """Loads the topic, then starts single workers in turns, with its table and without ads."""
    options = bench.options
    server = bench.server.address
    topics = {kind: bench.topics(f"catalogue-{kind}") for kind in ("first", "with", "without")}
    bench.console.print(f"{ADS:,} ads into a topic ...")
    start = time.monotonic()
    ads.fill_topic(bench, TOPIC, catalogue(bench.world, ADS))
    produced = time.monotonic() - start
    starts: dict[str, list[float]] = {"with": [], "without": []}
    with ads.by_id(TOPIC) as overridden:
        directory = str(overridden["ads.directory"])
        settings = bench.settings(topics["first"], [server], {**overridden, "supervisor.workers": PROCESSES})
        start = time.monotonic()
        with ScorerProcess(settings, bench.work / "catalogue.log", start_timeout_s=_TIMEOUT_S) as scorer:
            loaded = time.monotonic() - start
            cpu = cpu_s(psutil.Process(scorer.pid))
            bench.console.print(f"ready after {loaded:.1f} s, {cpu:.1f} s of CPU")
            processes = [psutil.Process(scorer.pid), *psutil.Process(scorer.pid).children(recursive=True)]
            table = sum(pss_of(one.pid, directory) for one in processes)
            whole = sum(one.memory_full_info().pss for one in processes)
            for turn in range(options.rounds):
                for kind in starts if turn % 2 == 0 else reversed(starts):
                    own = overridden if kind == "with" else UNHURRIED
                    seconds = _start_s(bench, topics[kind], own, f"catalogue-{kind}-{turn}")
                    starts[kind].append(seconds)
                    bench.console.print(f"round {turn + 1}, {kind} ads: a worker is ready after {seconds:.1f} s")
    values = {
        "first_load": (loaded, "s"),
        "first_load_cpu": (cpu, "s"),
        "produced_in": (produced, "s"),
        "table_memory": (table / 1e6, "MB"),
        "memory_of_all_processes": (whole / 1e6, "MB"),
        "start_with_table": (statistics.median(starts["with"]), "s"),
        "start_without_ads": (statistics.median(starts["without"]), "s"),
    }
    added = values["start_with_table"][0] - values["start_without_ads"][0]
    figures = [Figure(name, value, unit, *bound_of("catalogue", name)) for name, (value, unit) in values.items()]
    figures.append(Figure("table_adds_to_start", added, "s", *bound_of("catalogue", "table_adds_to_start")))
    shown = {"model_server": bench.server.version, "ads": ADS, "workers": PROCESSES, "rounds": options.rounds}
    write("catalogue", figures, {**shown, "overridden": dict(UNHURRIED)}, options.out)


def _start_s(bench: Bench, topics: Topics, overridden: Mapping[str, object], name: str) -> float:
    """Seconds from the start of a scorer until it is ready."""
    settings = bench.settings(topics, [bench.server.address], overridden)
    start = time.monotonic()
    with ScorerProcess(settings, bench.work / f"{name}.log"):
        return time.monotonic() - start


def catalogue(world: World, size: int) -> Iterator[tuple[str, bytes]]:
    """Ads like the world's, each with an id, a creative and a product of its own."""
    documents = [orjson.loads(value) for value in world.ads.json]
    for number in range(size):
        document = documents[number % len(documents)]
        ad_id = f"ad-{number:07d}"
        own = {"ad_id": ad_id, "creative": f"cr-{2 * number}", "product": f"prd-{number // 2}"}
        yield ad_id, orjson.dumps({**document, **own})
