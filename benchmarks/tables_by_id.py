"""Requests by ad id: capacity, CPU, lookups, memory, and latency while ads change."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import ads, changing_ads, table_memory
from benchmarks.bench import SPEC, UNHURRIED, Bench
from benchmarks.bounds import bound_of
from benchmarks.peers.catalogue import KAFKA_STREAMS
from benchmarks.peers.scenario import PARTITIONS, check_scores, installed
from benchmarks.programs import Run, follow, scorer, started
from benchmarks.report import Figure, write
from sandbox.broker.topics import Topics
from sandbox.world.bid_requests import CandidatesBy
from streamer.settings.sections import BatchingSettings

TOPIC = "ads"
HUNDRED = 100
"""Candidates of the article's requests."""
_WARM_UP = 0.5
_ROWS_PER_CALL = BatchingSettings().max_batch_rows


@dataclass(frozen=True, slots=True)
class Program:
    """One compared program.

    Attributes:
        module: `scorer`, or the name of a program or peer.
        share: of the backlog, so that a run of each program takes a few seconds.
        candidates: of each request; None: as the other scenarios.
    """

    module: str
    by: CandidatesBy
    share: float
    candidates: int | None = None


PROGRAMS = {
    "scorer": Program("scorer", "id", 1.25),
    "scorer_rows": Program("scorer", "rows", 0.75),
    "floor": Program("floor", "id", 1.25),
    "naive": Program("naive", "id", 0.1),
    "naive_rows": Program("naive", "rows", 0.1),
    "kafka_streams": Program("kafka_streams", "id", 1.5),
    "hundred_scorer": Program("scorer", "id", 1.5, HUNDRED),
    "hundred_floor": Program("floor", "id", 1.5, HUNDRED),
}
"""By name; requests of all but `_rows` name ads by id."""
PEERS = ("naive", "kafka_streams")
"""They keep the topic's ads in a table of their own."""
PEER_ROUNDS = 2
"""A run of a peer takes three times as long as one of the others."""
Runs = Mapping[str, Sequence[Run]]
"""The runs of each program, by round."""


def run(bench: Bench) -> None:
    """Each program processes its backlog in turns; then tables alone, and ads that change.

    Raises:
        AssertionError: the scores of two programs differ by more than 1e-6.
    """
    options = bench.options
    commands, missing = installed(bench, [KAFKA_STREAMS])
    names = [name for name, program in PROGRAMS.items() if program.module not in missing]
    ads.fill_topic(bench, TOPIC, zip(bench.world.ads.ids, bench.world.ads.json, strict=True))
    runs: dict[str, list[Run]] = {name: [] for name in names}
    with ads.by_id(TOPIC) as overridden:
        # It does not count: the first program of a new broker and model server costs them more than the others.
        process(bench, "floor", -1, overridden=overridden, commands=commands)
        for turn in range(options.rounds):
            for name in names if turn % 2 == 0 else reversed(names):
                if name in PEERS and turn >= PEER_ROUNDS:
                    continue
                found = process(bench, name, turn, overridden=overridden, commands=commands)
                runs[name].append(found)
                bench.console.print(
                    f"round {turn + 1}, {name}: {found.requests_per_second:.0f} requests/s, {found.cpu_ms:.2f} ms of "
                    f"CPU per request, {found.resident_mb:.0f} MB"
                )
    check(runs)
    figures = figures_of(runs)
    figures += table_memory.figures_of(table_memory.measure(bench.world, Path(SPEC)))
    rate = changing_ads.SHARE * statistics.median(one.requests_per_second for one in runs["scorer"])
    turns = changing_ads.measure(bench, rate)
    figures += changing_ads.figures_of(turns)
    settings = {
        "model_server": bench.server.version,
        "candidates": options.candidates,
        "rounds": options.rounds,
        "rounds_of_peers": min(options.rounds, PEER_ROUNDS),
        "partitions": PARTITIONS,
        "ads": len(bench.world.ads.ids),
        "ads_in_memory": table_memory.ADS,
        "changing": {"requests_per_second": round(rate, 1), "ads_per_second": changing_ads.CHANGES_PER_S},
        "overridden": dict(UNHURRIED),
        "not_installed": missing,
    }
    write("tables", figures, settings, options.out)


def process(
    bench: Bench,
    name: str,
    turn: int,
    *,
    overridden: Mapping[str, object],
    commands: Mapping[str, Sequence[str]],
    requests: int | None = None,
) -> Run:
    """One program's run through its backlog, or through one of this size.

    `overridden`: settings of a scorer by id; `commands`: those of the peers.
    """
    program = PROGRAMS[name]
    size = requests or round(bench.backlog_size * program.share)
    source = bench.backlog(size, PARTITIONS, program.by, program.candidates)
    topics = Topics(source, f"tables-{name}-{turn}", f"tables-{name}-{turn}-dead")
    for topic in topics[1:]:
        # Kafka Streams copies the request's time into the answer.
        bench.broker.create_topic(topic, 1, {"message.timestamp.type": "LogAppendTime"})
    log, warm_up = bench.work / f"{topics.scores}.log", round(_WARM_UP * size)
    is_by_id = program.by == "id"
    if program.module == "scorer":
        settings = bench.settings(topics, [bench.server.address], overridden if is_by_id else UNHURRIED)
        with scorer(settings, log) as running:
            return follow(running.pid, bench.bootstrap, topics.scores, size, warm_up=warm_up, others=bench.others)
    arguments = bench.arguments(source, topics.scores)
    if is_by_id:
        arguments["ads"] = TOPIC
    if program.module == "floor":
        # As many rows in a call as the scorer's batches have.
        arguments["chunk"] = str(_ROWS_PER_CALL // (program.candidates or bench.options.candidates) or 1)
    command = commands.get(program.module) or [sys.executable, "-m", f"benchmarks.{program.module}"]
    with started(command, arguments, log) as pid:
        return follow(pid, bench.bootstrap, topics.scores, size, warm_up=warm_up, others=bench.others)


def check(runs: Runs) -> None:
    """Compares the scores of the programs, those with 100 candidates among themselves.

    Raises:
        AssertionError: a difference above 1e-6; it names program and request.
    """
    firsts = {name: found[0] for name, found in runs.items()}
    check_scores({name: found for name, found in firsts.items() if PROGRAMS[name].candidates is None})
    check_scores({name.removeprefix("hundred_"): firsts[name] for name in firsts if PROGRAMS[name].candidates})


def figures_of(runs: Runs) -> list[Figure]:
    """Medians of the rounds; ratios are of one round. The best peer has the best median.

    A program can have runs in the first rounds only.
    """

    def median(name: str, figure: str) -> float:
        return float(statistics.median(getattr(found, figure) for found in runs[name]))

    def ratio(figure: str, above: str, below: str) -> float:
        pairs = zip(runs[above], runs[below], strict=False)
        return float(statistics.median(getattr(a, figure) / getattr(b, figure) for a, b in pairs))

    best = max((name for name in PEERS if name in runs), key=lambda name: median(name, "requests_per_second"))
    ratios = {
        "ids_over_rows": ratio("requests_per_second", "scorer", "scorer_rows"),
        "scorer_over_best_peer": ratio("requests_per_second", "scorer", best),
        "naive_rows_cpu_over_scorer": ratio("cpu_ms", "naive_rows", "scorer"),
        "scorer_over_floor": ratio("requests_per_second", "scorer", "floor"),
        "scorer_cpu_over_floor": ratio("cpu_ms", "scorer", "floor"),
        "hundred_over_floor": ratio("requests_per_second", "hundred_scorer", "hundred_floor"),
    }
    figures = [Figure(name, value, "ratio", *bound_of("tables", name)) for name, value in ratios.items()]
    for name, found in runs.items():
        rate = f"{name}_rate"
        figures += [
            Figure(rate, median(name, "requests_per_second"), "requests/s", *bound_of("tables", rate)),
            Figure(f"{name}_cpu", median(name, "cpu_ms"), "ms"),
            *(
                Figure(f"{name}_{other}_cpu", statistics.median(one.others[other] for one in found), "ms")
                for other in found[0].others
            ),
            Figure(f"{name}_resident", max(one.resident_mb for one in found), "MB"),
        ]
    return figures
