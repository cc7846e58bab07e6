"""`make train-demo`: from three topics to a model that scores, each step by the command that an operator would give."""

import argparse
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from sandbox.broker import BrokerError, open_broker
from sandbox.demo import MODEL, MODEL_CONFIG, SPEC, TOPICS, DemoError, find_budget, send
from sandbox.dumps import Dumps, write_dumps
from sandbox.model_server.process import ModelServerError, ModelServerProcess
from sandbox.progress import step
from sandbox.ranker import RankerError, TrafficReport
from sandbox.scorer import ScorerError, ScorerProcess
from sandbox.world import World

_SHOWN = 4
_SHARDS = 8
_RATE, _CANDIDATES = 10.0, 100


def main() -> int:
    """Runs the demo. Exit status: 0 all is well, 1 a step failed or an answer was wrong, 130 interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=40_000, help=f"of the log, with {_SHOWN} ads shown each")
    parser.add_argument("--seconds", type=float, default=15.0, help="of traffic")
    parser.add_argument("--out", type=Path, default=Path("build/train-demo"))
    arguments = parser.parse_args()
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        traffic = run(console, arguments.requests, arguments.seconds, arguments.out)
    except (BrokerError, ModelServerError, ScorerError, RankerError, DemoError) as error:
        console.print(f"train-demo: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; every process has been ended")
        return 130
    return 0 if traffic.clean and traffic.sources.get("model") else 1


def run(console: Console, requests: int, seconds: float, out: Path) -> TrafficReport:
    """Prepares, trains, publishes and serves in `out`, which it empties first.

    Raises:
        BrokerError, ModelServerError, ScorerError, RankerError, DemoError: a step failed.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with step(console, f"world, and three topics with {requests * _SHOWN:,} impressions"):
        world = World(seed=7)
        log = world.draw_log(out / "clicks.jsonl", requests, _SHOWN)
        dumps = write_dumps(log.path, out / "dumps")
    data, candidate, served = out / "data", out / "candidate", out / "models" / MODEL
    config = _prepare_config(dumps, out / "prepare.yaml")
    _command(console, "Spark prepares", "prepare", "--config", config, "--output", data)
    _command(
        console,
        "2 parameter servers and 3 processes train, of which each step waits for 2",
        *("launch", "--prepared", data, "--config", MODEL_CONFIG, "--spec", SPEC),
        *("--ps", "2", "--workers", "3", "--backup", "1", "--export-to", candidate, "--version", "1"),
    )
    _command(
        console,
        "the gate decides, and the version is published",
        *("publish", candidate / "1", "--to", served, "--prepared", data, "--user-feature", "user_id"),
    )
    with ExitStack() as stack:
        with step(console, "broker"):
            broker = stack.enter_context(open_broker())
        with step(console, "model server (a stand-in that speaks TensorFlow Serving's API)"):
            server = stack.enter_context(ModelServerProcess(served, MODEL, log_path=out / "model_server.log"))
        for topic in TOPICS:
            broker.create_topic(topic, 4)
        settings = {
            "kafka.bootstrap_servers": broker.bootstrap_servers,
            "predictor.addresses": [server.address],
            "predictor.models": [MODEL],
        }
        with step(console, "scorer"):
            scorer = stack.enter_context(ScorerProcess(settings, out / "scorer.log"))
        with step(console, "trial: within what time does it answer?"):
            budget_ms, _ = find_budget(world, broker.bootstrap_servers, _RATE, _CANDIDATES)
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
    _show(console, traffic, log.bayes_auc)
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
        process = subprocess.Popen([sys.executable, "-m", "model_training", *words])
        try:
            status = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60)
    if status:
        raise DemoError(f"model-training {words[0]} ended with status {status}")


def _show(console: Console, traffic: TrafficReport, bayes_auc: float) -> None:
    table = Table("", "", box=None, show_header=False, title="what happened", title_justify="left")
    table.add_row("the truth's own AUC on the log", f"{bayes_auc:.4f}, which no model can beat but by chance")
    table.add_row("requests sent / answered", f"{traffic.requests_sent:,} / {traffic.answered:,}")
    table.add_row("by status", ", ".join(f"{name} {count:,}" for name, count in traffic.statuses.items()))
    table.add_row("by model", ", ".join(f"{name} {count:,}" for name, count in traffic.models.items()))
    wrong = sum(traffic.wrong.values())
    table.add_row("lost / twice / wrong", f"{traffic.lost} / {traffic.duplicates} / {wrong}")
    console.print()
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
