"""`make demo`: the whole system on one machine, from an empty folder to a report."""

import argparse
import json
import signal
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from sandbox.broker.broker import Broker
from sandbox.demos.by_id import ADS_TOPIC, figures, published_ads, recomputed
from sandbox.demos.load import OFFERED_AGAIN, SAME_CANDIDATES, TOPICS, Load, find_budget, saturated_rate, send
from sandbox.demos.model import DemoError, logistic_regression, train
from sandbox.demos.report import DemoReport, make_report, plot
from sandbox.errors import SandboxError
from sandbox.host.priority import real_time_priority
from sandbox.processes.model_server import ONE_THREAD_PER_CALL
from sandbox.processes.progress import step
from sandbox.processes.server_program import server_program
from sandbox.processes.system import MODEL, Protocol, System, running_broker, running_system
from sandbox.traffic.report import TrafficReport
from sandbox.world.bid_requests import CandidatesBy
from sandbox.world.world import World
from streamer.settings import Settings
from streamer.settings.sections import PredictorSettings

LOG_REQUESTS, LOG_SHOWN = 50_000, 4
_SHARE = 0.3
_RATES = (10.0, 150.0)


def main() -> int:
    """Runs the demo.

    Exit status: 0 every answer is correct, 1 an answer is missing or wrong or a step failed, 130
    interrupted.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, help="requests per second (default: 30 %% of the measured capacity)")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--candidates", type=int, default=300)
    parser.add_argument(
        "--candidates-by", choices=get_args(CandidatesBy), default="rows", help="id: their features are in a topic"
    )
    parser.add_argument("--protocol", choices=get_args(Protocol), default="grpc", help="of calls to the model server")
    parser.add_argument("--out", type=Path, default=Path("build/demo"))
    arguments = parser.parse_args()
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        report = run(console, **vars(arguments))
    except SandboxError as error:
        console.print(f"demo: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; all processes are stopped")
        return 130
    return 0 if report.healthy else 1


@dataclass(frozen=True, slots=True)
class _Options:
    """The command line, without the output folder."""

    rate: float | None
    seconds: float
    candidates: int
    candidates_by: CandidatesBy
    protocol: Protocol


def run(console: Console, *, out: Path, **options: Any) -> DemoReport:
    """Runs all steps with the options of the command line.

    Writes `report.json` and `report.png` to `out`.

    Raises:
        SandboxError: a step failed.
    """
    chosen = _Options(**options)
    model_server = server_program().version  # a wrong MODEL_SERVER fails before the training
    out.mkdir(parents=True, exist_ok=True)
    with running_broker(console) as broker:
        if chosen.candidates_by == "id" and broker.kind == "embedded":
            raise DemoError(
                "--candidates-by id needs Apache Kafka: the embedded cluster cannot describe a topic of ads"
            )
        with step(console, f"world and click log of {LOG_REQUESTS * LOG_SHOWN:,} impressions"):
            world = World(seed=7)
            log = world.draw_log(out / "clicks.jsonl", LOG_REQUESTS, LOG_SHOWN)
            rate, limit = log.clicked.mean(), log.bayes_auc
        console.print(f"  {rate:.1%} clicked; AUC of the true probabilities, the limit of any model: {limit:.4f}")
        train(console, log.path, out)
        scored = _score(console, broker, world, out, chosen)
        with step(console, "quality: served scores, true probabilities, logistic regression"):
            report = make_report(
                scored.traffic,
                world=world,
                baseline=logistic_regression(log.path),
                broker=broker.kind,
                protocol=chosen.protocol,
                model_server=model_server,
                seconds=chosen.seconds,
                cache_hit_ratio=scored.cache_hit_ratio,
                ads=scored.ads,
                settings=scored.settings,
            )
            (out / "report.json").write_text(json.dumps(report.as_json(), indent=2) + "\n")
            plot(scored.traffic, out / "report.png")
    show(console, report, out)
    return report


@dataclass(frozen=True, slots=True)
class _Scored:
    """The traffic of the demo; `ads`: changes and comparison if it names ads by id, else empty."""

    traffic: TrafficReport
    cache_hit_ratio: float
    ads: dict[str, object]
    settings: dict[str, object]


def _score(console: Console, broker: Broker, world: World, out: Path, options: _Options) -> _Scored:
    """Runs the system under traffic."""
    with ExitStack() as stack:
        history = None
        if options.candidates_by == "id":
            history = stack.enter_context(published_ads(console, broker, world))
        system = stack.enter_context(
            running_system(
                console,
                out,
                TOPICS,
                broker=broker,
                settings={} if history is None else {"ads.topic": ADS_TOPIC},
                server_flags=ONE_THREAD_PER_CALL,
                protocol=options.protocol,
            )
        )
        load = Load(world, broker, options.candidates, options.candidates_by, history)
        changes = {} if history is None else history.kinds
        traffic, cache_hit_ratio, settings = _traffic(console, system, load, options)
        ads: dict[str, object] = {}
        if history is not None:
            predictor = PredictorSettings(
                addresses=system.settings["predictor.addresses"], models=(MODEL,), protocol=options.protocol
            )
            ads = figures(history, changes, recomputed(console, world, traffic, history, predictor))
    return _Scored(traffic, cache_hit_ratio, ads, settings)


def _traffic(
    console: Console, system: System, load: Load, options: _Options
) -> tuple[TrafficReport, float, dict[str, object]]:
    """Sends the traffic; returns the report, the hit ratio and the settings."""
    scorer, rate, candidates = system.scorer, options.rate, options.candidates
    with step(console, "capacity: requests per second that this machine can score"):
        saturated = saturated_rate(load)
    if rate is None:
        rate = min(max(saturated * _SHARE, _RATES[0]), _RATES[1])
    console.print(f"  {saturated:.0f} requests/s; sending {rate:.0f}/s with {candidates} candidates each")
    with real_time_priority(scorer.pid, system.server.pid) as prioritised:
        if prioritised:
            console.print(
                "  scorer and model server have priority over broker, bidder and ranker, which run"
                " on other machines in production"
            )
        with step(console, "budget: the time within which it answers at that rate"):
            budget_ms, share = find_budget(load, rate)
        console.print(f"  {share:.0%} of the requests are scored within {budget_ms:.0f} ms, the budget from now on")
        before = {name: scorer.metric(f"streamer_cache_{name}_total") for name in ("hits", "misses")}
        traffic = send(console, load, rate=rate, seconds=options.seconds, budget_ms=budget_ms)
        hits, misses = (scorer.metric(f"streamer_cache_{name}_total") - before[name] for name in ("hits", "misses"))
    settings: dict[str, object] = {
        "rate": round(rate, 1),
        "seconds": options.seconds,
        "candidates": candidates,
        "candidates_by": options.candidates_by,
        "budget_ms": budget_ms,
        "offered_again": OFFERED_AGAIN,
        "same_candidates": SAME_CANDIDATES,
        "saturated_requests_per_second": round(saturated, 1),
        "streamer": {**Settings().model_dump(mode="json"), "overridden": system.settings},
    }
    return traffic, hits / (hits + misses) if hits + misses else 0.0, settings


def show(console: Console, report: DemoReport, out: Path) -> None:
    """Prints the summary."""
    table = Table("", "", box=None, show_header=False, title="results", title_justify="left")
    for name, value in report.summary():
        table.add_row(name, value)
    console.print()
    console.print(table)
    console.print(f"\n{out}: report.json and report.png have the details, scorer.log and model_server.log the logs.")
    if report.healthy:
        console.print("No request lost, no answer duplicated, every answer correct.", style="green")
    else:
        console.print("FAILED: answers are missing, duplicated or wrong; see above.", style="red bold")


if __name__ == "__main__":
    sys.exit(main())
