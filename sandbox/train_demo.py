"""`make train-demo`: from three topics to a model that scores, each step by the command that an operator would give."""

import argparse
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import yaml
from rich.console import Console
from rich.table import Table

from sandbox.broker import BrokerError, open_broker
from sandbox.broker.jars import own_group_command
from sandbox.demo import MODEL, MODEL_CONFIG, SPEC, DemoError, connected, find_budget, send
from sandbox.dumps import Dumps, write_dumps
from sandbox.model_server.process import ModelServerError, ModelServerProcess
from sandbox.progress import step
from sandbox.ranker import RankerError, TrafficReport
from sandbox.scorer import ScorerError, ScorerProcess
from sandbox.world import World

_SHOWN = 4
_SHARDS = 8
_RATE, _CANDIDATES = 10.0, 100
_CLEAN_UP_S = 30.0


def main() -> int:
    """Runs the demo. Exit status: 0 all is well, 1 a step failed or an answer was wrong, 130 interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=30_000, help=f"of the log, with {_SHOWN} ads shown each")
    parser.add_argument("--seconds", type=float, default=15.0, help="of traffic")
    parser.add_argument("--out", type=Path, default=Path("build/train-demo"))
    arguments = parser.parse_args()
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(console, arguments.requests, arguments.seconds, arguments.out)
    except (BrokerError, ModelServerError, ScorerError, RankerError, DemoError) as error:
        console.print(f"train-demo: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; every process has been ended")
        return 130


def run(console: Console, requests: int, seconds: float, out: Path) -> int:
    """Prepares, trains, publishes and serves in `out`, which it empties first; the exit status.

    Raises:
        BrokerError, ModelServerError, ScorerError, RankerError, DemoError: a step failed.
    """
    started = time.monotonic()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with step(console, f"1/6 a world, and three topics with {requests * _SHOWN:,} impressions of it"):
        world = World(seed=7)
        log = world.draw_log(out / "clicks.jsonl", requests, _SHOWN)
        dumps = write_dumps(log.path, out / "dumps")
    data, candidate, served = out / "data", out / "candidate", out / "models" / MODEL
    config = _prepare_config(dumps, out / "prepare.yaml")
    _command(console, "2/6 Spark joins and encodes them", "prepare", "--config", config, "--output", data)
    _command(
        console,
        "3/6 two parameter servers and three processes train; a step waits for two of them, the third is a backup",
        *("launch", "--prepared", data, "--config", MODEL_CONFIG, "--spec", SPEC),
        *("--ps", "2", "--workers", "3", "--backup", "1", "--export-to", candidate, "--version", "1"),
    )
    _command(
        console,
        "4/6 the gate decides, and the version is published",
        *("publish", candidate / "1", "--to", served, "--prepared", data, "--user-feature", "user_id"),
    )
    traffic = _serve(console, world, seconds, out)
    card = orjson.loads((served / "1" / "model_card.json").read_bytes())
    return _show(console, traffic, log.bayes_auc, card, time.monotonic() - started)


def _serve(console: Console, world: World, seconds: float, out: Path) -> TrafficReport:
    """Has the published version score traffic through Kafka."""
    with ExitStack() as stack:
        with step(console, "5/6 broker, model server (a stand-in that speaks TensorFlow Serving's API), scorer"):
            broker = stack.enter_context(open_broker())
            server = ModelServerProcess(out / "models" / MODEL, MODEL, log_path=out / "model_server.log")
            stack.enter_context(server)
            scorer = stack.enter_context(ScorerProcess(connected(broker, server), out / "scorer.log"))
            budget_ms, _ = find_budget(world, broker.bootstrap_servers, _RATE, _CANDIDATES)
        console.print("6/6 the published version scores through Kafka:", style="bold")
        traffic = send(
            console,
            world,
            broker.bootstrap_servers,
            rate=_RATE,
            seconds=seconds,
            candidates=_CANDIDATES,
            budget_ms=budget_ms,
        )
        scorer.stop()
        server.stop()
    return traffic


def _prepare_config(dumps: Dumps, path: Path) -> Path:
    source = {"kind": "topics", **{name: [str(file)] for name, file in dumps._asdict().items()}}
    content = {"spec": str(SPEC.resolve()), "source": source, "shards": _SHARDS}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def _command(console: Console, what: str, *arguments: str | Path) -> None:
    """Runs a command of `model-training`, which shows its own progress.

    Raises:
        DemoError: it failed; the reason is on the screen.
    """
    words = [str(argument) for argument in arguments]
    with step(console, f"{what}: model-training {' '.join(words)}"):
        # In a group of its own, so that Ctrl-C reaches it once, from here.
        process = subprocess.Popen(
            own_group_command([sys.executable, "-m", "model_training", *words]),
            stdin=subprocess.DEVNULL,
            process_group=0,
        )
        try:
            status = process.wait()
        finally:
            _end(process)
    if status:
        raise DemoError(f"model-training {words[0]} ended with status {status}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command that still runs: it is asked as by Ctrl-C, so that it ends its own processes, then made to."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(_CLEAN_UP_S)
            except subprocess.TimeoutExpired:
                continue


def _show(console: Console, traffic: TrafficReport, bayes_auc: float, card: dict[str, Any], seconds: float) -> int:
    """The summary, and the exit status that follows from it."""
    judged = card["evaluation"]["candidate"]
    table = Table("", "", box=None, show_header=False, title="what happened", title_justify="left")
    table.add_row(
        "AUC on later impressions", f"{judged['auc']:.4f}; the truth's own is {bayes_auc:.4f} on the whole log"
    )
    table.add_row("requests sent / answered", f"{traffic.requests_sent:,} / {traffic.answered:,}")
    table.add_row("by status", ", ".join(f"{name} {count:,}" for name, count in traffic.statuses.items()))
    table.add_row("by model", ", ".join(f"{name} {count:,}" for name, count in traffic.models.items()))
    table.add_row("candidates by source", ", ".join(f"{name} {count:,}" for name, count in traffic.sources.items()))
    wrong = sum(traffic.wrong.values())
    table.add_row("lost / twice / wrong", f"{traffic.lost} / {traffic.duplicates} / {wrong}")
    table.add_row("time", f"{seconds // 60:.0f} min {seconds % 60:.0f} s")
    console.print()
    console.print(table)
    if not traffic.clean or not traffic.sources.get("model"):
        console.print("NOT WELL: something was lost, repeated, wrong or not scored; see above.", style="red bold")
        return 1
    console.print("prepared, trained, judged, published and served; every answer right.", style="green")
    return 0


if __name__ == "__main__":
    sys.exit(main())
