"""`make demo`: the whole system on one machine, from an empty folder to a report."""

import argparse
import json
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from sandbox.ahead import ahead
from sandbox.broker import Broker, BrokerError, open_broker
from sandbox.demo_report import DemoReport, make_report, plot
from sandbox.drive import Topics, drive
from sandbox.model_server.process import ONE_THREAD_A_CALL, ModelServerError, ModelServerProcess
from sandbox.progress import step
from sandbox.ranker import Documents, RankerError, Scorer, TrafficReport
from sandbox.repeats import Exchanges
from sandbox.requests import RequestFactory
from sandbox.scorer import ScorerError, ScorerProcess
from sandbox.world import World
from streamer.features import Encoder, FeatureSpec
from streamer.settings import Settings
from streamer.types import F32

MODEL = "ctr"
TOPICS = Topics("bid-requests", "ctr-scores", "dead-letters")
SPEC = Path("configs/features/reference.yaml")
MODEL_CONFIG = Path("configs/models/wide_deep.yaml")
LOG_REQUESTS, LOG_SHOWN = 50_000, 4
_PROBE_REQUESTS = 400
_PROBE_RATE = 2000.0
_SHARE = 0.3
_RATES = (10.0, 150.0)
_BUDGETS_MS = (30.0, 100.0, 300.0, 1000.0, 3000.0)
_TRIAL_S = 3.0
_TRIAL_SHARE = 0.95
_BASELINE_REQUESTS = 15_000
# Of the requests, offers of an opportunity of the last second by another exchange; and of its candidates, the same.
_OFFERED_AGAIN, _SAME_CANDIDATES = 0.3, 0.8


def main() -> int:
    """Runs the demo. Exit status: 0 all is well, 1 something was lost or could not start, 130 interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, help="requests a second (default: 30 %% of what the machine holds)")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--candidates", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("build/demo"))
    arguments = parser.parse_args()
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        report = run(console, arguments.rate, arguments.seconds, arguments.candidates, arguments.out)
    except (BrokerError, ModelServerError, ScorerError, RankerError, DemoError) as error:
        console.print(f"demo: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; every process has been ended")
        return 130
    return 0 if report.healthy else 1


class DemoError(Exception):
    """A step of the demo failed."""


def run(console: Console, rate: float | None, seconds: float, candidates: int, out: Path) -> DemoReport:
    """Runs all steps and writes `report.json` and `report.png` to `out`.

    Raises:
        BrokerError, ModelServerError, ScorerError, RankerError, DemoError: a step failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with step(console, "broker"):
            broker = stack.enter_context(open_broker())
        what = "Apache Kafka" if broker.kind == "kafka" else f"librdkafka's embedded cluster ({broker.reason})"
        console.print(f"  {what} at {broker.bootstrap_servers}")
        with step(console, f"world and click log of {LOG_REQUESTS * LOG_SHOWN:,} impressions"):
            world = World(seed=7)
            log = world.draw_log(out / "clicks.jsonl", LOG_REQUESTS, LOG_SHOWN)
        console.print(f"  {log.clicked.mean():.1%} clicked; the truth's own AUC on it is {log.bayes_auc:.4f}")
        train(console, out)
        with step(console, "model server (a stand-in that speaks TensorFlow Serving's API)"):
            server = ModelServerProcess(
                out / "models" / MODEL, MODEL, flags=ONE_THREAD_A_CALL, log_path=out / "model_server.log"
            )
            stack.enter_context(server)
        settings = connected(broker, server)
        with step(console, "scorer"):
            scorer = stack.enter_context(ScorerProcess(settings, out / "scorer.log"))
        with step(console, "probe: how much does this machine hold?"):
            saturated = probe(world, broker.bootstrap_servers, candidates)
        if rate is None:
            rate = min(max(saturated * _SHARE, _RATES[0]), _RATES[1])
        console.print(f"  {saturated:.0f} requests/s at most; sending {rate:.0f}/s with {candidates} candidates each")
        if stack.enter_context(ahead(scorer.pid, server.pid)):
            console.print(
                "  scorer and model server go before broker, bidder and ranker, which share their cores here only"
            )
        with step(console, "trial: within what time does it answer at that rate?"):
            budget_ms, share = find_budget(world, broker.bootstrap_servers, rate, candidates)
        console.print(f"  {share:.0%} of the requests are scored within {budget_ms:.0f} ms, the budget from now on")
        before = {name: scorer.metric(f"streamer_cache_{name}_total") for name in ("hits", "misses")}
        traffic = send(
            console,
            world,
            broker.bootstrap_servers,
            rate=rate,
            seconds=seconds,
            candidates=candidates,
            budget_ms=budget_ms,
        )
        hits, misses = (scorer.metric(f"streamer_cache_{name}_total") - before[name] for name in ("hits", "misses"))
        scorer.stop()
        server.stop()
        with step(console, "quality: served scores, the truth, a logistic regression"):
            report = make_report(
                traffic,
                world=world,
                rival=logistic_regression(log.path),
                broker=broker.kind,
                seconds=seconds,
                cache_hit_ratio=hits / (hits + misses) if hits + misses else 0.0,
                settings={
                    "rate": round(rate, 1),
                    "seconds": seconds,
                    "candidates": candidates,
                    "budget_ms": budget_ms,
                    "offered_again": _OFFERED_AGAIN,
                    "same_candidates": _SAME_CANDIDATES,
                    "saturated_requests_per_second": round(saturated, 1),
                    "streamer": {**Settings().model_dump(mode="json"), "overridden": settings},
                },
            )
    (out / "report.json").write_text(json.dumps(report.as_json(), indent=2) + "\n")
    plot(traffic, out / "report.png")
    show(console, report, out)
    return report


def connected(broker: Broker, server: ModelServerProcess) -> dict[str, object]:
    """The settings of a scorer between the two, whose topics are made."""
    for topic in TOPICS:
        broker.create_topic(topic, 4)
    return {
        "kafka.bootstrap_servers": broker.bootstrap_servers,
        "predictor.addresses": [server.address],
        "predictor.models": [MODEL],
    }


def train(console: Console, out: Path) -> None:
    """Trains and exports version 1 in a process of its own, which shows its progress.

    Raises:
        DemoError: it failed; the reason is on the screen.
    """
    console.print("training Wide & Deep on it, and exporting version 1 ...", style="bold")
    started = time.monotonic()
    command = [sys.executable, "-m", "model_training", "train", "--log", str(out / "clicks.jsonl")]
    command += ["--spec", str(SPEC), "--config", str(MODEL_CONFIG), "--records", str(out / "records")]
    command += ["--export-to", str(out / "models" / MODEL), "--version", "1"]
    version = out / "models" / MODEL / "1"
    if version.exists():
        console.print(f"  {version} is there from an earlier run; `make clean` removes it")
        return
    process = subprocess.Popen(command)
    try:
        status = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(10)
    if status:
        raise DemoError(f"training ended with status {status}")
    console.print(f"  trained and exported in {time.monotonic() - started:.0f} s")


def logistic_regression(log: Path) -> Scorer:
    """A logistic regression without crosses, fitted on the first impressions of the log."""
    # Imported here: it brings scikit-learn, seconds that the start of the demo need not wait for.
    from model_training.data.click_log import encode_log, read_log  # noqa: PLC0415
    from model_training.data.examples import Examples  # noqa: PLC0415
    from model_training.evaluation.baseline import LogisticBaseline  # noqa: PLC0415

    encoder = Encoder(FeatureSpec.from_yaml(SPEC))
    parts = list(encode_log(read_log(log, last=_BASELINE_REQUESTS), encoder))
    examples = Examples(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("ids", "floats", "labels")))
    model = LogisticBaseline(encoder.layout).fit(examples)

    def score(documents: Documents, candidates: Documents, shown: list[int]) -> F32:
        return model.predict(*encoder.encode_log(documents, candidates, shown))

    return score


def probe(world: World, bootstrap: str, candidates: int) -> float:
    """Requests a second that are answered when far more are sent, each with all the time it wants."""
    rate = 1.0
    # Twice, and the second time counts: the first requests still pay for cold caches. From the first request sent to
    # the last answer received, so that answers that arrive in a lump do not make the machine look faster than it is.
    for turn in range(2):
        factory = RequestFactory(
            world, candidates=candidates, seed=10 + turn, deadline_ms=60_000, prefix=f"probe{turn}"
        )
        times = drive(bootstrap, TOPICS, factory, rate=_PROBE_RATE, seconds=_PROBE_REQUESTS / _PROBE_RATE).times
        if len(times.received_at):
            sent_at = times.received_at - times.latency_ms / 1e3
            rate = len(sent_at) / max(float(times.received_at.max() - sent_at.min()), 1e-3)
    return rate


def find_budget(world: World, bootstrap: str, rate: float, candidates: int) -> tuple[float, float]:
    """The smallest budget of a few, in ms, within which this machine scores nearly all requests, and their share.

    The first is the scorer's default; a machine that needs another one has not the cores to itself.
    """
    budget_ms, share = _BUDGETS_MS[0], 0.0
    for budget_ms in _BUDGETS_MS:
        factory = RequestFactory(
            world, candidates=candidates, seed=3, deadline_ms=budget_ms, prefix=f"b{budget_ms:.0f}"
        )
        report = drive(bootstrap, TOPICS, factory, rate=rate, seconds=_TRIAL_S)
        share = report.statuses.get("ok", 0) / max(1, report.requests_sent)
        if share >= _TRIAL_SHARE:
            break
    return budget_ms, share


def send(
    console: Console,
    world: World,
    bootstrap: str,
    *,
    rate: float,
    seconds: float,
    candidates: int,
    budget_ms: float,
) -> TrafficReport:
    """Sends the demo's traffic with a line of progress every few seconds, and checks every answer."""
    console.print(f"traffic for {seconds:.0f} s ...", style="bold")
    console.print(
        f"  {_OFFERED_AGAIN:.0%} of them offer an opportunity of the last second again, as several exchanges do: same"
        f" user and context, {_SAME_CANDIDATES:.0%} of the candidates; those scores are in the score cache"
    )

    def progress(elapsed: float, sent: int, answered: int) -> None:
        console.print(f"  {elapsed:3.0f} s: {sent} requests sent, {answered} answered")

    factory = RequestFactory(world, candidates=candidates, seed=2, deadline_ms=budget_ms, prefix="demo")
    offers = Exchanges(factory, again=_OFFERED_AGAIN, kept=_SAME_CANDIDATES, within=max(1, round(rate)))
    return drive(bootstrap, TOPICS, offers, rate=rate, seconds=seconds, progress=progress)


def show(console: Console, report: DemoReport, out: Path) -> None:
    """The summary that a person reads."""
    table = Table("", "", box=None, show_header=False, title="what happened", title_justify="left")
    for name, value in report.summary():
        table.add_row(name, value)
    console.print()
    console.print(table)
    console.print(f"\n{out / 'report.json'} and {out / 'report.png'} have the details.")
    if report.healthy:
        console.print("nothing lost, nothing twice, every answer right.", style="green")
    else:
        console.print("NOT WELL: something was lost, repeated or wrong; see above.", style="red bold")


if __name__ == "__main__":
    sys.exit(main())
