"""Both replays from their files to a verdict: they start a broker, a model server and a scorer of their own."""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from sandbox.broker import Broker, open_broker
from sandbox.drive import Topics
from sandbox.model_server.process import ModelServerProcess
from sandbox.progress import step
from sandbox.replay.avazu import Impression, bid_request, read_impressions, write_click_log
from sandbox.replay.data import AVAZU, BID_REQUESTS, data_file
from sandbox.replay.openrtb import read_requests
from sandbox.replay.stream import Outcome, stream
from sandbox.scorer import ScorerProcess
from sandbox.world import auc
from streamer.types import F32, I8

MODEL = "ctr"
PARTITIONS = 4
HOLDOUT = 0.2
MAX_SCORE_DIFFERENCE = 1e-6
MAX_AUC_DIFFERENCE = 1e-5


class ReplayError(Exception):
    """A step of a replay failed."""


@dataclass(frozen=True, slots=True)
class AvazuReport:
    """Streamed scores beside those that training computed of the same rows.

    Attributes:
        rows: impressions of the last 20 % by time; scored: those answered by the model, each exactly once.
        max_difference: largest |streamed - offline| of a row's click probability.
        streamed_auc, offline_auc, logistic_regression_auc: on the clicks of these rows.
    """

    rows: int
    scored: int
    max_difference: float
    streamed_auc: float
    offline_auc: float
    logistic_regression_auc: float

    @property
    def healthy(self) -> bool:
        """Every row was scored, and as offline."""
        return (
            self.scored == self.rows
            and self.max_difference <= MAX_SCORE_DIFFERENCE
            and abs(self.streamed_auc - self.offline_auc) <= MAX_AUC_DIFFERENCE
        )


@dataclass(frozen=True, slots=True)
class BidRequestReport:
    """What became of raw bid requests.

    Attributes:
        sent: records; statuses: answers by status; reasons: of answers that are not `ok`, and of dead letters.
        unsettled: keys of the records that have not exactly one answer or one dead letter.
    """

    sent: int
    statuses: Mapping[str, int]
    dead_letters: int
    reasons: Mapping[str, int]
    unsettled: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """Each record has exactly one answer or one dead letter, and whatever was not scored says why."""
        refused = sum(n for status, n in self.statuses.items() if status != "ok") + self.dead_letters
        return not self.unsettled and sum(self.reasons.values()) == refused and "" not in self.reasons


def replay_avazu(console: Console, out: Path, data: Path | None = None, *, broker: Broker | None = None) -> AvazuReport:
    """Trains on the first 80 % by time, streams the rest through Kafka and the scorer, compares.

    Without a started `broker` it starts one of its own.

    Raises:
        MissingDataError, ReplayError, BrokerError, ModelServerError, ScorerError, StreamError: a step failed.
    """
    path = data_file(AVAZU, data)
    out.mkdir(parents=True, exist_ok=True)
    with step(console, f"reading {path}"):
        impressions = list(read_impressions(path))
        write_click_log(impressions, out / "clicks.jsonl")
    predictions = out / "predictions.npz"
    with step(console, f"training on the first {1 - HOLDOUT:.0%} of {len(impressions):,} impressions"):
        _model_training(
            "train",
            *("--log", str(out / "clicks.jsonl"), "--config", "configs/models/avazu.yaml"),
            *("--holdout", str(HOLDOUT), "--baseline", "--predictions", str(predictions)),
            *("--export-to", str(_fresh_version(out))),
        )
    with np.load(predictions) as offline:
        labels, scores, baseline = offline["labels"], offline["wide_deep"], offline["baseline"]
    streamed = impressions[len(impressions) - len(labels) :]
    requests = {shown.row_id: bid_request(shown) for shown in streamed}
    outcome = _through_the_scorer(console, out, "avazu", requests, broker)
    report = compare(streamed, outcome, labels, scores, baseline)
    table = Table("AUC of the last 20 % by time", "", box=None)
    table.add_row("streamed through Kafka", f"{report.streamed_auc:.5f}")
    table.add_row("the same rows offline", f"{report.offline_auc:.5f}")
    table.add_row("logistic regression without crosses", f"{report.logistic_regression_auc:.5f}")
    console.print(table)
    console.print(
        f"{report.scored} of {report.rows} rows scored; largest difference of a score {report.max_difference:.1e}"
    )
    return report


def compare(streamed: list[Impression], outcome: Outcome, labels: I8, offline: F32, baseline: F32) -> AvazuReport:
    """Puts the streamed scores beside the offline ones, row by row in the order of `streamed`."""
    ctr = np.array([_only_score(outcome.answers.get(shown.row_id, [])) for shown in streamed])
    known = ~np.isnan(ctr)
    if not known.any():
        raise ReplayError("no row was scored")
    return AvazuReport(
        rows=len(streamed),
        scored=int(known.sum()),
        max_difference=float(np.abs(ctr - offline)[known].max()),
        streamed_auc=auc(labels[known], ctr[known]),
        offline_auc=auc(labels, offline),
        logistic_regression_auc=auc(labels, baseline),
    )


def replay_bid_requests(
    console: Console, out: Path, data: Path | None = None, *, broker: Broker | None = None
) -> BidRequestReport:
    """Sends all OpenRTB and AdX requests, raw as they are with candidates attached, through the scorer.

    They come without clicks, so the model is an untrained one: this is about what the scorer can read, not about CTR.
    Without a started `broker` it starts one of its own.

    Raises:
        MissingDataError, ReplayError, BrokerError, ModelServerError, ScorerError, StreamError: a step failed.
    """
    requests = read_requests(tuple(data_file(name, data) for name in BID_REQUESTS))
    out.mkdir(parents=True, exist_ok=True)
    with step(console, "exporting an untrained model of the OpenRTB spec"):
        spec = ("--spec", "configs/features/openrtb.yaml")
        _model_training("init", *spec, "--export-to", str(_fresh_version(out)))
    # Many of them share an id, so the key is the line's number.
    records = {f"line-{i}": request for i, request in enumerate(requests)}
    outcome = _through_the_scorer(console, out, "bidreq", records, broker)
    answers = [answer for found in outcome.answers.values() for answer in found]
    dead = [reason for found in outcome.dead_letters.values() for reason in found]
    reasons = Counter(dead)
    reasons.update(str(answer.get("reason", "")) for answer in answers if answer["status"] != "ok")
    report = BidRequestReport(
        sent=len(records),
        statuses=Counter(str(answer["status"]) for answer in answers),
        dead_letters=len(dead),
        reasons=reasons,
        unsettled=tuple(outcome.unsettled(records)),
    )
    table = Table("bid requests", "", box=None)
    table.add_row("sent", str(report.sent))
    for status, n in report.statuses.items():
        table.add_row(f"answered {status}", str(n))
    table.add_row("dead letters", str(report.dead_letters))
    table.add_row("without exactly one of these", str(len(report.unsettled)))
    console.print(table)
    for reason, n in reasons.most_common():
        console.print(f"  {n} times: {reason}", markup=False)
    return report


def _through_the_scorer(
    console: Console, out: Path, name: str, records: Mapping[str, bytes], broker: Broker | None
) -> Outcome:
    """Streams records through topics named after the data set."""

    def progress(settled: int) -> None:
        console.print(f"  {settled:,} settled")

    topics = Topics(f"{name}-requests", f"{name}-scores", f"{name}-dead-letters")
    with ExitStack() as stack:
        if broker is None:
            with step(console, "broker"):
                broker = stack.enter_context(open_broker())
            console.print(f"  {broker.kind}: {broker.reason}", markup=False)
        for topic in topics:
            broker.create_topic(topic, PARTITIONS)
        with step(console, "model server (a stand-in that speaks TensorFlow Serving's API)"):
            server = ModelServerProcess(out / "models" / MODEL, MODEL, log_path=out / "model_server.log")
            stack.enter_context(server)
        settings = {
            "kafka.bootstrap_servers": broker.bootstrap_servers,
            "kafka.group_id": f"replay-{name}",
            "source.topic": topics.requests,
            "sink.topic": topics.scores,
            "sink.dead_letter_topic": topics.dead_letters,
            "predictor.addresses": [server.address],
            "predictor.models": [MODEL],
            # A replay is not about time: whatever is sent shall be scored.
            "source.budget_ms": 600_000,
            "source.max_budget_ms": 600_000,
        }
        with step(console, "scorer"):
            stack.enter_context(ScorerProcess(settings, out / "scorer.log"))
        with step(console, f"streaming {len(records):,} requests through Kafka"):
            return stream(broker.bootstrap_servers, topics, records, progress=progress)


def _fresh_version(out: Path) -> Path:
    """The base path, where version 1 of an earlier run has made room."""
    base = out / "models" / MODEL
    shutil.rmtree(base, ignore_errors=True)
    return base


def _model_training(*arguments: str) -> None:
    status = subprocess.run([sys.executable, "-m", "model_training", *arguments], check=False).returncode
    if status:
        raise ReplayError(f"model-training {arguments[0]} ended with status {status}; its message is above")


def _only_score(answers: list[dict[str, object]]) -> float:
    """The score of a row that was answered once, by the model; else NaN."""
    if len(answers) != 1 or answers[0]["status"] != "ok":
        return float("nan")
    ctr = answers[0]["ctr"]
    assert isinstance(ctr, list)
    assert len(ctr) == 1
    return float(ctr[0])
