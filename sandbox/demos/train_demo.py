"""`make train-demo`: from three topics to a published model that scores."""

import argparse
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import yaml
from rich.console import Console
from rich.table import Table

from sandbox.demos.load import TOPICS, Load, find_budget, send
from sandbox.demos.model import MODEL_CONFIG, SPEC, DemoError
from sandbox.errors import SandboxError
from sandbox.host.parent import parent_bound_command
from sandbox.processes.progress import step
from sandbox.processes.server_program import server_program
from sandbox.processes.system import model_base, running_system
from sandbox.traffic.report import TrafficReport
from sandbox.world.topic_files import TopicFiles, write_topic_files
from sandbox.world.world import World

_SHOWN = 4
_SHARDS = 8
_SPLIT = {"train": 0.7, "validation": 0.15, "test": 0.15}
_CALIBRATION = "platt"
"""One pass with few clicks leaves the level of the scores to chance: from 0.8 to 1.16 of the clicks over five logs.

The gate bounds the interval of this ratio by 0.8 and 1.2. Calibration corrects the level with the clicks of the
validation rows, and the test rows have enough clicks for an interval of ± 0.06.
"""
_RATE, _CANDIDATES = 10.0, 100
_CLEAN_UP_S = 30.0


def main() -> int:
    """Runs the demo.

    Exit status: 0 every answer is correct, 1 a step failed or an answer is wrong, 130 interrupted.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--requests", type=int, default=45_000, help=f"requests of the log, with {_SHOWN} shown ads each"
    )
    parser.add_argument("--seconds", type=float, default=15.0, help="duration of the traffic")
    parser.add_argument("--out", type=Path, default=Path("build/train-demo"))
    arguments = parser.parse_args()
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(console, arguments.requests, arguments.seconds, arguments.out)
    except SandboxError as error:
        console.print(f"train-demo: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; all processes are stopped")
        return 130


def run(console: Console, requests: int, seconds: float, out: Path) -> int:
    """Empties `out`, then prepares, trains, publishes and serves; returns the exit status.

    Raises:
        SandboxError: a step failed.
    """
    started = time.monotonic()
    server_program()  # a wrong MODEL_SERVER fails before the training
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with step(console, f"1/6 a world, and three topics with {requests * _SHOWN:,} of its impressions"):
        world = World(seed=7)
        log = world.draw_log(out / "clicks.jsonl", requests, _SHOWN)
        topics = write_topic_files(log.path, out / "topics")
    data, candidate, served = out / "data", out / "candidate", model_base(out)
    config, model = _prepare_config(topics, out / "prepare.yaml"), _model_config(out / "model.yaml")
    _command(console, "2/6 Spark joins and encodes them", "prepare", "--config", config, "--output", data)
    _command(
        console,
        "3/6 two parameter servers and three training processes; a step waits for two, the third is a backup",
        *("launch", "--prepared", data, "--config", model, "--spec", SPEC),
        *("--ps", "2", "--workers", "3", "--backup", "1", "--export-to", candidate, "--version", "1"),
    )
    _command(
        console,
        "4/6 the gate decides, and publishes the version",
        *("publish", candidate / "1", "--to", served, "--prepared", data),
    )
    traffic = _serve(console, world, seconds, out)
    card = orjson.loads((served / "1" / "model_card.json").read_bytes())
    return _show(console, traffic, log.bayes_auc, card, time.monotonic() - started)


def _serve(console: Console, world: World, seconds: float, out: Path) -> TrafficReport:
    """Sends traffic through Kafka, which the published version scores."""
    console.print("5/6 broker, model server and scorer:", style="bold")
    with running_system(console, out, TOPICS) as system:
        load = Load(world, system.broker, _CANDIDATES)
        budget_ms, _ = find_budget(load, _RATE)
        console.print("6/6 the published version scores through Kafka:", style="bold")
        return send(console, load, rate=_RATE, seconds=seconds, budget_ms=budget_ms)


def _prepare_config(topics: TopicFiles, path: Path) -> Path:
    source = {"kind": "topics", **{name: [str(file)] for name, file in topics._asdict().items()}}
    source["user_id"] = "user.id"
    content = {"spec": str(SPEC.resolve()), "source": source, "shards": _SHARDS, "split": _SPLIT}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def _model_config(path: Path) -> Path:
    content = yaml.safe_load(MODEL_CONFIG.read_text(encoding="utf-8"))
    content |= {"spec": str(SPEC.resolve()), "export": {"calibration": _CALIBRATION}}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def _command(console: Console, title: str, *arguments: str | Path) -> None:
    """Runs a command of `model-training`, which prints its own progress.

    Raises:
        DemoError: the command failed; it has printed the reason.
    """
    words = [str(argument) for argument in arguments]
    with step(console, f"{title}: model-training {' '.join(words)}", has_bar=True):
        # In its own process group, so that Ctrl-C reaches it only once, from `_end`.
        process = subprocess.Popen(
            parent_bound_command([sys.executable, "-m", "model_training", *words]),
            stdin=subprocess.DEVNULL,
            process_group=0,
        )
        try:
            status = process.wait()
        finally:
            _end(process)
    if status:
        raise DemoError(f"model-training {words[0]} exited with status {status}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a running command: SIGINT, so that it stops its children, then SIGTERM, then SIGKILL."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(_CLEAN_UP_S)
            except subprocess.TimeoutExpired:
                continue


def _show(console: Console, traffic: TrafficReport, bayes_auc: float, card: dict[str, Any], seconds: float) -> int:
    """Prints the summary; returns the exit status."""
    evaluation = card["evaluation"]["candidate"]
    table = Table("", "", box=None, show_header=False, title="results", title_justify="left")
    table.add_row(
        "AUC on later impressions",
        f"{evaluation['auc']:.4f}; of the true probabilities {bayes_auc:.4f} on the whole log",
    )
    table.add_row("requests sent / answered", f"{traffic.requests_sent:,} / {traffic.answered:,}")
    table.add_row("by status", ", ".join(f"{name} {count:,}" for name, count in traffic.statuses.items()))
    table.add_row("by model", ", ".join(f"{name} {count:,}" for name, count in traffic.models.items()))
    table.add_row("candidates by source", ", ".join(f"{name} {count:,}" for name, count in traffic.sources.items()))
    wrong = sum(traffic.wrong.values())
    table.add_row("lost / duplicates / wrong", f"{traffic.lost} / {traffic.duplicates} / {wrong}")
    table.add_row("time", f"{seconds // 60:.0f} min {seconds % 60:.0f} s")
    console.print()
    console.print(table)
    if not traffic.clean or not traffic.sources.get("model"):
        console.print("FAILED: answers are missing, duplicated, wrong or not scored; see above.", style="red bold")
        return 1
    console.print("Prepared, trained, evaluated, published and served; every answer correct.", style="green")
    return 0


if __name__ == "__main__":
    sys.exit(main())
