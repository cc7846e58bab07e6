"""`make bench`: the scorer, the floor and the naive program on the same requests, broker and model server."""

import argparse
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.programs import Run, follow, program, scorer
from benchmarks.report import Figure, write
from sandbox.broker import KafkaBroker
from sandbox.drive import Topics, drive
from sandbox.ledger import Ledger
from sandbox.model_server.process import ModelServerProcess
from sandbox.requests import RequestFactory
from sandbox.scorer import ScorerProcess
from sandbox.traffic import Traffic
from sandbox.world import World

SPEC, MODEL_CONFIG = "configs/features/reference.yaml", "configs/models/wide_deep.yaml"
BACKLOG = {"floor": 2400, "naive": 600, "scorer": 2400}
_LATENCY_SHARE = 0.3
# The demo's settings, but for budget and cache.
OVERRIDDEN: Mapping[str, object] = {
    "source.budget_ms": 600_000,
    "source.max_budget_ms": 600_000,
    "cache.enabled": False,
}


def main() -> int:
    """Runs both scenarios. Exit status 1 if the programs disagree; bounds are printed, not enforced."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    console = Console(highlight=False)
    work: Path = arguments.out / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    world = World(seed=7)
    model = _model(console, world, arguments.out)
    with KafkaBroker() as broker, ModelServerProcess(model, "ctr", log_path=work / "model_server.log") as server:
        for name, size in {"backlog": max(BACKLOG.values()), "short-backlog": min(BACKLOG.values())}.items():
            _fill(world, broker, name, size, arguments.candidates)
        runs: dict[str, list[Run]] = {name: [] for name in BACKLOG}
        for turn in range(arguments.rounds):
            for name in BACKLOG:
                run = _one(name, turn, broker, server, work)
                runs[name].append(run)
                console.print(
                    f"round {turn + 1}, {name}: {run.requests_per_second:.0f} requests/s, {run.cpu_ms:.2f} ms of CPU "
                    f"a request, {run.resident_mb:.0f} MB"
                )
        _check_scores(runs)
        saturated = statistics.median(run.requests_per_second for run in runs["scorer"])
        settings = {"candidates": arguments.candidates, "rounds": arguments.rounds, "overridden": OVERRIDDEN}
        write("throughput", _throughput(runs, arguments.candidates), settings, arguments.out)
        rate = saturated * _LATENCY_SHARE
        console.print(f"latency at {rate:.0f} requests/s ({_LATENCY_SHARE:.0%} of saturation) for 30 s ...")
        figures = _latency(world, broker, server, rate=rate, candidates=arguments.candidates, work=work)
        write("latency", figures, {**settings, "rate": round(rate, 1)}, arguments.out)
    return 0


def _model(console: Console, world: World, out: Path) -> Path:
    """A trained model of the reference spec; made once."""
    models = out / "models" / "ctr"
    if not (models / "1").exists():
        console.print("training a model for the benchmarks (once) ...")
        log = world.draw_log(out / "clicks.jsonl", 10_000, 4)
        command = [sys.executable, "-m", "model_training", "train", "--log", str(log.path), "--spec", SPEC]
        command += ["--config", MODEL_CONFIG, "--records", str(out / "records")]
        subprocess.run([*command, "--export-to", str(models), "--version", "1"], check=True)
    return models


def _fill(world: World, broker: KafkaBroker, topic: str, size: int, candidates: int) -> None:
    """The same requests in one partition, for every program to work off."""
    broker.create_topic(topic, 1)
    factory = RequestFactory(world, candidates=candidates, seed=3, prefix=topic)
    bootstrap, ledger = broker.bootstrap_servers, Ledger()
    traffic = Traffic(bootstrap, topic, factory, rate=1e5, seconds=size / 1e5, arrival="uniform", ledger=ledger)
    traffic.start()
    if not traffic.join(120):
        raise TimeoutError(f"{topic} could not be filled in 120 s")


def _one(name: str, turn: int, broker: KafkaBroker, server: ModelServerProcess, work: Path) -> Run:
    """One program works off its backlog with a topic and a group of its own."""
    source = "short-backlog" if BACKLOG[name] == min(BACKLOG.values()) else "backlog"
    output = f"{name}-{turn}"
    broker.create_topic(output, 1)
    log = work / f"{output}.log"
    requests = BACKLOG[name]
    if name == "scorer":
        broker.create_topic(f"{output}-dead", 1)
        settings = _settings(broker, server, source, output) | dict(OVERRIDDEN)
        with scorer(settings, log) as running:
            return follow(running.pid, broker.bootstrap_servers, output, requests)
    arguments = {
        "bootstrap": broker.bootstrap_servers,
        "model-server": server.address,
        "input": source,
        "output": output,
        "group": output,
    }
    with program(f"benchmarks.{name}", arguments, log) as pid:
        return follow(pid, broker.bootstrap_servers, output, requests)


def _settings(broker: KafkaBroker, server: ModelServerProcess, source: str, output: str) -> dict[str, object]:
    return {
        "kafka.bootstrap_servers": broker.bootstrap_servers,
        "kafka.group_id": output,
        "predictor.addresses": [server.address],
        "source.topic": source,
        "sink.topic": output,
        "sink.dead_letter_topic": f"{output}-dead",
    }


def _check_scores(runs: Mapping[str, list[Run]]) -> None:
    """All programs must give the same scores for the same request."""
    for name, shorter in (("floor", False), ("naive", True)):
        theirs = runs[name][0].scores
        ours = {run_id.removeprefix("short-"): ctr for run_id, ctr in runs["scorer"][0].scores.items()}
        for request_id, ctr in theirs.items():
            if shorter and request_id.removeprefix("short-") not in ours:
                raise SystemExit(f"{name} answered {request_id}, the scorer did not")
            np.testing.assert_allclose(ctr, ours[request_id.removeprefix("short-")], rtol=0, atol=2e-6)


def _throughput(runs: Mapping[str, list[Run]], candidates: int) -> list[Figure]:
    def median(name: str, figure: str) -> float:
        return float(statistics.median(getattr(run, figure) for run in runs[name]))

    def ratio(figure: str, other: str) -> float:
        pairs = zip(runs["scorer"], runs[other], strict=True)
        return float(statistics.median(getattr(a, figure) / getattr(b, figure) for a, b in pairs))

    rates = {name: median(name, "requests_per_second") * candidates for name in runs}
    return [
        *(Figure(f"{name}_candidates_per_second", rate, "candidates/s") for name, rate in rates.items()),
        Figure("scorer_over_floor", ratio("requests_per_second", "floor"), "ratio", ">=", 0.7),
        Figure("scorer_over_naive", ratio("requests_per_second", "naive"), "ratio", ">=", 2.0),
        *(Figure(f"{name}_cpu_per_request", median(name, "cpu_ms"), "ms") for name in runs),
        Figure("scorer_cpu_over_floor", ratio("cpu_ms", "floor"), "ratio", "<=", 1.5),
        *(Figure(f"{name}_resident", median(name, "resident_mb"), "MB") for name in ("floor", "naive")),
        Figure("scorer_resident", max(run.resident_mb for run in runs["scorer"]), "MB", "<=", 150),
    ]


def _latency(
    world: World, broker: KafkaBroker, server: ModelServerProcess, *, rate: float, candidates: int, work: Path
) -> list[Figure]:
    """Open-loop traffic at a share of saturation; times are the scorer's own, from receipt to answer."""
    topics = Topics("latency-in", "latency-out", "latency-out-dead")
    for topic in topics:
        broker.create_topic(topic, 4)
    settings = _settings(broker, server, "latency-in", "latency-out") | dict(OVERRIDDEN)
    bootstrap = broker.bootstrap_servers
    with ScorerProcess(settings, work / "latency.log"):
        warm_up = RequestFactory(world, candidates=candidates, seed=4, prefix="warm-up")
        drive(bootstrap, topics, warm_up, rate=rate, seconds=10.0)
        measured = RequestFactory(world, candidates=candidates, seed=5, prefix="latency")
        report = drive(bootstrap, topics, measured, rate=rate, seconds=30.0)
    if not report.clean:
        raise SystemExit(f"latency: not every request has one right answer: {report.wrong}, lost {report.lost}")
    scoring, whole = report.times.stage_ms["total"], report.times.latency_ms
    rows = report.times.batch_rows
    return [
        Figure("scoring_p50", float(np.nanpercentile(scoring, 50)), "ms"),
        Figure("scoring_p99", float(np.nanpercentile(scoring, 99)), "ms", "<=", 10.0),
        Figure("scoring_p999", float(np.nanpercentile(scoring, 99.9)), "ms"),
        Figure("end_to_end_p50", float(np.percentile(whole, 50)), "ms"),
        Figure("end_to_end_p99", float(np.percentile(whole, 99)), "ms"),
        Figure("batch_rows_p50", float(np.nanpercentile(rows, 50)), "rows"),
    ]


if __name__ == "__main__":
    sys.exit(main())
