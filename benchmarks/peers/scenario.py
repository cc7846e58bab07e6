"""Compares the scorer with other stream processors, the naive program and the floor."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.bench import UNHURRIED, Bench
from benchmarks.bounds import bound_of
from benchmarks.peers.catalogue import PEERS, Peer
from benchmarks.peers.environments import FOLDER, PeerError, command_of
from benchmarks.programs import Run, follow, scorer, started
from benchmarks.report import Figure, write
from sandbox.broker.topics import Topics

PARTITIONS = 4
"""Of the input topic: Kafka Streams and Quix Streams spread it over threads and processes."""
# Shares of the backlog, so that a run of each program takes about the same time; the JVM compiles for the first 2,000.
_SHARES = {"scorer": 1.0, "floor": 1.0, "naive": 0.25, "kafka_streams": 1.5}
_SHARE = 0.5
# Answers that do not count: the JVM compiles, other programs start their threads and fill their memos.
_WARM_UP = 0.5
_ATOL = 1e-6


def run(bench: Bench) -> None:
    """Each program processes its backlog in turns, for some rounds.

    A peer that cannot be installed is named.

    Raises:
        AssertionError: the scores of two programs differ by more than 1e-6.
    """
    commands, missing = installed(bench)
    options = bench.options
    names = ["scorer", "floor", "naive", *commands]
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for turn in range(options.rounds):
        for name in names:
            found = process(bench, name, commands.get(name, ()), turn)
            runs[name].append(found)
            bench.console.print(
                f"round {turn + 1}, {name}: {found.requests_per_second:.0f} requests/s, {found.cpu_ms:.2f} ms of CPU "
                f"per request, {found.resident_mb:.0f} MB"
            )
    check_scores({name: of_name[0] for name, of_name in runs.items()})
    settings = {
        "model_server": bench.server.version,
        "candidates": options.candidates,
        "rounds": options.rounds,
        "partitions": PARTITIONS,
        "overridden": dict(UNHURRIED),
        "peers": {peer.title: dict(peer.settings) for peer in PEERS if peer.name in commands},
        "not_installed": missing,
    }
    write("peers", figures_of(runs), settings, options.out)


def installed(
    bench: Bench, peers: Sequence[Peer] = PEERS, folder: Path = FOLDER
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """By name, the commands of the peers that can be installed, and why the others cannot."""
    commands: dict[str, list[str]] = {}
    missing: dict[str, str] = {}
    for peer in peers:
        try:
            options = [f"--{name}={value}" for name, value in peer.settings.items()]
            commands[peer.name] = [*command_of(peer, folder), *options]
        except PeerError as error:
            missing[peer.name] = str(error)
            bench.console.print(str(error), style="red", markup=False)
    return commands, missing


def process(bench: Bench, name: str, command: Sequence[str], turn: int, requests: int | None = None) -> Run:
    """One program's run through its backlog, or through one of this size."""
    size = requests or round(bench.backlog_size * _SHARES.get(name, _SHARE))
    warm_up = round(_WARM_UP * size)
    topics = Topics(bench.backlog(size, PARTITIONS), f"peers-{name}-{size}-{turn}", f"peers-{name}-{size}-{turn}-dead")
    for topic in topics[1:]:
        # Some peers copy the request's time into the answer.
        bench.broker.create_topic(topic, 1, {"message.timestamp.type": "LogAppendTime"})
    log = bench.work / f"{topics.scores}.log"
    if name == "scorer":
        with scorer(bench.settings(topics, [bench.server.address], UNHURRIED), log) as running:
            return follow(running.pid, bench.bootstrap, topics.scores, size, warm_up=warm_up)
    arguments = {
        "bootstrap": bench.bootstrap,
        "model-server": bench.server.address,
        "input": topics.requests,
        "output": topics.scores,
        "group": topics.scores,
    }
    with started(command or [sys.executable, "-m", f"benchmarks.{name}"], arguments, log) as pid:
        return follow(pid, bench.bootstrap, topics.scores, size, warm_up=warm_up)


def check_scores(runs: Mapping[str, Run]) -> None:
    """Compares the scores of each program with the scorer's, of requests that both have.

    Raises:
        AssertionError: a difference above 1e-6, or no common request; it names the program.
    """
    ours = runs["scorer"].scores
    for name, found in runs.items():
        common = found.scores.keys() & ours.keys()
        assert common, f"{name}: no request in common with the scorer"
        for request_id in common:
            ctr = found.scores[request_id]
            np.testing.assert_allclose(ctr, ours[request_id], rtol=0, atol=_ATOL, err_msg=f"{name}: {request_id}")


def figures_of(runs: Mapping[str, Sequence[Run]]) -> list[Figure]:
    """Figures of each program, and ratios to the scorer, of runs of the same round.

    The best peer is the one with the best median; the naive program, plain aiokafka, is a peer, the floor is not.
    """

    def median(name: str, figure: str) -> float:
        return float(statistics.median(getattr(run, figure) for run in runs[name]))

    def ratio(figure: str, above: str, below: str) -> float:
        pairs = zip(runs[above], runs[below], strict=True)
        return float(statistics.median(getattr(a, figure) / getattr(b, figure) for a, b in pairs))

    others = [name for name in runs if name != "scorer"]
    peers = [name for name in others if name != "floor"]
    cheapest = min(peers, key=lambda name: median(name, "cpu_ms"))
    fastest = max(peers, key=lambda name: median(name, "requests_per_second"))
    return [
        *(Figure(f"{name}_rate", median(name, "requests_per_second"), "requests/s") for name in runs),
        *(Figure(f"{name}_cpu_per_request", median(name, "cpu_ms"), "ms") for name in runs),
        *(Figure(f"{name}_resident", median(name, "resident_mb"), "MB") for name in runs),
        *(Figure(f"scorer_rate_over_{name}", ratio("requests_per_second", "scorer", name), "ratio") for name in others),
        *(Figure(f"{name}_cpu_over_scorer", ratio("cpu_ms", name, "scorer"), "ratio") for name in others),
        *(
            Figure(name, value, "ratio", *bound_of("peers", name))
            for name, value in {
                "best_peer_cpu_over_scorer": ratio("cpu_ms", cheapest, "scorer"),
                "scorer_over_best_peer": ratio("requests_per_second", "scorer", fastest),
            }.items()
        ),
    ]
