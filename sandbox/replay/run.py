"""Both replays, from the files to a verdict, with their own models and processes."""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from sandbox.broker.broker import Broker
from sandbox.broker.topics import Topics
from sandbox.errors import SandboxError
from sandbox.processes.progress import step
from sandbox.processes.system import model_base, running_system
from sandbox.replay.avazu import Impression, bid_request, read_impressions, write_click_log
from sandbox.replay.openrtb import read_requests
from sandbox.replay.public_data import AVAZU, BID_REQUESTS, data_file
from sandbox.replay.stream import Outcome, stream
from sandbox.world.clicks import auc
from streamer.types import F32, I8

HOLDOUT = 0.2
MAX_SCORE_DIFFERENCE = 1e-6
MAX_AUC_DIFFERENCE = 1e-5


class ReplayError(SandboxError):
    """A step of a replay failed."""


@dataclass(frozen=True, slots=True)
class AvazuReport:
    """Streamed scores compared with the scores that training computed for the same rows.

    Attributes:
        rows: impressions of the last 20 % by time; scored: those that the model answered, each exactly once.
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
        """Whether every row was scored, and as in training."""
        return (
            self.scored == self.rows
            and self.max_difference <= MAX_SCORE_DIFFERENCE
            and abs(self.streamed_auc - self.offline_auc) <= MAX_AUC_DIFFERENCE
        )


@dataclass(frozen=True, slots=True)
class BidRequestReport:
    """Answers to raw bid requests.

    Attributes:
        sent: number of records; statuses: number of answers by status.
        reasons: number of answers that are not `ok`, and of dead letters, by reason.
        unsettled: keys of the records without exactly one answer or one dead letter.
    """

    sent: int
    statuses: Mapping[str, int]
    dead_letters: int
    reasons: Mapping[str, int]
    unsettled: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """Whether each record has one answer or dead letter, and each unscored record a reason."""
        unscored = sum(n for status, n in self.statuses.items() if status != "ok") + self.dead_letters
        return not self.unsettled and sum(self.reasons.values()) == unscored and "" not in self.reasons


def replay_avazu(console: Console, out: Path, data: Path | None = None, *, broker: Broker | None = None) -> AvazuReport:
    """Trains on the first 80 % by time, streams the rest, and compares the scores.

    `broker` is a running broker; without it, the replay starts one.

    Raises:
        SandboxError: a file is missing, or a step failed.
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
    """Compares the streamed scores with the offline ones, row by row in the order of `streamed`."""
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
    """Sends all OpenRTB and AdX requests, raw but with added candidates, through the scorer.

    They have no clicks, so the model is untrained: the replay tests what the scorer can read, not the quality of CTR.
    `broker` is a running broker; without it, the replay starts one.

    Raises:
        SandboxError: a file is missing, or a step failed.
    """
    requests = read_requests(tuple(data_file(name, data) for name in BID_REQUESTS))
    out.mkdir(parents=True, exist_ok=True)
    with step(console, "exporting an untrained model of the OpenRTB spec"):
        spec = ("--spec", "configs/features/openrtb.yaml")
        _model_training("init", *spec, "--export-to", str(_fresh_version(out)))
    # Many requests have the same id, so the key is the line number.
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
    """Streams records through topics whose names have the name of the data set."""

    def progress(settled: int) -> None:
        console.print(f"  {settled:,} settled")

    topics = Topics(f"{name}-requests", f"{name}-scores", f"{name}-dead-letters")
    settings = {
        "kafka.group_id": f"replay-{name}",
        # A replay does not measure time: every record must be scored.
        "source.budget_ms": 600_000,
        "source.max_budget_ms": 600_000,
    }
    with (
        running_system(console, out, topics, broker=broker, settings=settings) as system,
        step(console, f"streaming {len(records):,} requests through Kafka"),
    ):
        return stream(system.broker.bootstrap_servers, topics, records, progress=progress)


def _fresh_version(out: Path) -> Path:
    """The base path, without the versions of an earlier run."""
    base = model_base(out)
    shutil.rmtree(base, ignore_errors=True)
    return base


def _model_training(*arguments: str) -> None:
    status = subprocess.run([sys.executable, "-m", "model_training", *arguments], check=False).returncode
    if status:
        raise ReplayError(f"model-training {arguments[0]} exited with status {status}; its message is above")


def _only_score(answers: list[dict[str, object]]) -> float:
    """The score of a row with exactly one answer, from the model; else NaN."""
    if len(answers) != 1 or answers[0]["status"] != "ok":
        return float("nan")
    ctr = answers[0]["ctr"]
    assert isinstance(ctr, list)
    assert len(ctr) == 1
    return float(ctr[0])
