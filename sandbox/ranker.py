"""The consumer of scores: reads the output topic, has every answer checked, and reports."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from sandbox.checker import AnswerTimes, Checker, Sample
from sandbox.dead_letters import reason_of, request_id_of
from sandbox.ledger import Ledger
from sandbox.population import F64, Ints
from sandbox.world import World, auc, draw_clicks

_POLL_S = 0.1
_METADATA_S = 60.0


class RankerError(Exception):
    """A topic cannot be read; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class PerSecond:
    """Figures of each second of the run, for plots; n seconds, NaN where a second has no answer.

    Attributes:
        second: int [n], from the first receipt; answers: int [n], received in it.
        p50_ms, p99_ms: float64 [n], end-to-end latency; batch_rows: float64 [n], mean rows of the answers' batches.
    """

    second: Ints
    answers: Ints
    p50_ms: F64
    p99_ms: F64
    batch_rows: F64


@dataclass(frozen=True, slots=True)
class TrafficReport:
    """What became of the requests.

    Attributes:
        requests_sent: requests that the broker took, or may have taken.
        answered: those with an answer; buried: those with a dead letter instead; lost: those without either, when the
            report was made.
        duplicates, unknown: answers beyond a request's first, and to no request that was sent.
        wrong: answers with a fault, by fault; they count as answered, but for those that are no JSON.
        statuses, sources, models, reasons: answers by status and model, candidates by source, failures by reason.
        dead_letters: records on the dead-letter topic since the start; None where it is not watched.
        dead_letter_reasons: the same by the reason in their headers.
        times: latency, stages and batch rows of each right answer.
        examples: the first answer (its head) of each verdict but `right`.
    """

    requests_sent: int
    answered: int
    buried: int
    lost: int
    duplicates: int
    unknown: int
    wrong: Mapping[str, int]
    statuses: Mapping[str, int]
    sources: Mapping[str, int]
    models: Mapping[str, int]
    reasons: Mapping[str, int]
    dead_letters: int | None
    dead_letter_reasons: Mapping[str, int]
    times: AnswerTimes
    samples: tuple[Sample, ...]
    examples: Mapping[str, str]

    @property
    def clean(self) -> bool:
        """Each request has exactly one answer, and each answer is right."""
        return not (self.buried or self.lost or self.duplicates or self.unknown or self.wrong)


def report_of(
    checker: Checker,
    ledger: Ledger,
    dead_letters: int | None = None,
    dead_letter_reasons: Mapping[str, int] | None = None,
) -> TrafficReport:
    """What checker and ledger know by now."""
    verdicts: dict[str, int] = dict(checker.verdicts.items())
    rest = {"right", "unknown", "duplicate"}
    return TrafficReport(
        requests_sent=ledger.sent - ledger.refused,
        answered=checker.answered,
        buried=ledger.buried,
        lost=ledger.unanswered,
        duplicates=verdicts.get("duplicate", 0),
        unknown=verdicts.get("unknown", 0),
        wrong={fault: n for fault, n in verdicts.items() if fault not in rest},
        statuses=dict(checker.statuses),
        sources=dict(checker.sources),
        models=dict(checker.models),
        reasons=dict(checker.reasons),
        dead_letters=dead_letters,
        dead_letter_reasons=dict(dead_letter_reasons or {}),
        times=checker.times(),
        samples=checker.samples,
        examples=dict(checker.examples),
    )


def per_second(times: AnswerTimes) -> PerSecond:
    """The answers' times, second by second."""
    if not len(times.received_at):
        none = np.empty(0)
        return PerSecond(none.astype(np.intp), none.astype(np.intp), none, none, none)
    at = np.floor(times.received_at - times.received_at.min()).astype(np.intp)
    seconds = np.arange(at.max() + 1)
    p50, p99, rows = (np.full(len(seconds), np.nan) for _ in range(3))
    for second in np.unique(at).tolist():
        chosen = at == second
        p50[second], p99[second] = np.percentile(times.latency_ms[chosen], (50, 99))
        known = times.batch_rows[chosen]
        known = known[~np.isnan(known)]
        if len(known):
            rows[second] = known.mean()
    return PerSecond(seconds, np.bincount(at, minlength=len(seconds)), p50, p99, rows)


class Ranker:
    """Consumes answers in its own thread and own position, without a consumer group.

    Once `start` has returned, every answer produced from then on is seen; with `begin="beginning"`, earlier ones too.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        checker: Checker,
        ledger: Ledger,
        *,
        begin: Literal["end", "beginning"] = "end",
        dead_letters: str | None = None,
        fetch_wait_ms: int = 100,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._topic, self._dead_topic, self._begin = topic, dead_letters, begin
        self._checker, self._ledger = checker, ledger
        self._dead = 0
        self._dead_reasons: Counter[str] = Counter()
        self._stop, self._changed = threading.Event(), threading.Condition()
        self._failure: Exception | None = None
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"ranker-{topic}",  # librdkafka wants one; it is never joined
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "fetch.wait.max.ms": fetch_wait_ms,
                "reconnect.backoff.max.ms": 1000,  # 10 s otherwise, after an outage
                "fetch.message.max.bytes": 16 << 20,
                "queued.max.messages.kbytes": 65_536,
                "log_level": 2,
                **(config or {}),
            }
        )
        self._thread = threading.Thread(target=self._run, name=f"ranker of {topic}", daemon=True)

    def start(self) -> None:
        """Fixes the position, then starts to read.

        Raises:
            RankerError: a topic does not exist, or the broker does not answer.
        """
        topics = [self._topic] if self._dead_topic is None else [self._topic, self._dead_topic]
        self._consumer.assign([position for topic in topics for position in self._positions(topic)])
        self._thread.start()

    def wait_for_answers(self, timeout_s: float) -> bool:
        """Waits until every request sent so far has been answered; False where some still lack an answer.

        Raises:
            RankerError: reading has failed.
        """
        with self._changed:
            done = self._changed.wait_for(lambda: self._failure or not self._ledger.unanswered, timeout_s)
        if self._failure is not None:
            raise RankerError(f"reading {self._topic} failed: {self._failure}") from self._failure
        return bool(done)

    def close(self, timeout_s: float = 10.0) -> None:
        """Stops reading and leaves the broker; may be called again."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._consumer.close()

    def report(self) -> TrafficReport:
        """What is known by now. Final after `close`; while reading, counts may be one answer apart from each other."""
        dead = None if self._dead_topic is None else self._dead
        return report_of(self._checker, self._ledger, dead, self._dead_reasons)

    def _positions(self, topic: str) -> list[TopicPartition]:
        try:
            described = self._consumer.list_topics(topic, timeout=_METADATA_S).topics[topic]
            if described.error is not None:
                raise RankerError(f"topic {topic}: {described.error.str()}")
            if self._begin == "beginning":
                return [TopicPartition(topic, p, OFFSET_BEGINNING) for p in described.partitions]
            ends = (
                (p, self._consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=_METADATA_S)[1])
                for p in described.partitions
            )
            return [TopicPartition(topic, p, end) for p, end in ends]
        except KafkaException as error:
            raise RankerError(f"topic {topic}: {error.args[0]}") from error

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                message = self._consumer.poll(_POLL_S)
                if message is not None:
                    self._receive(message, time.monotonic())
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            self._failure = error
        with self._changed:
            self._changed.notify_all()

    def _receive(self, message: Message, now: float) -> None:
        error = message.error()
        if error is not None:
            if error.fatal():
                raise KafkaException(error)
            return  # librdkafka retries what can be retried
        if message.topic() == self._topic:
            self._checker.check(message.value() or b"", now)
        else:
            self._dead += 1
            if (request_id := request_id_of(message)) is not None:
                self._ledger.bury(request_id)
            if len(self._dead_reasons) < 100:
                self._dead_reasons[reason_of(message)] += 1
        with self._changed:
            self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class Quality:
    """How good the served scores are on clicks drawn from the truth.

    Attributes:
        served, bayes: AUC of the served scores and of the truth on the same clicks; NaN where there is no click.
        rival: AUC of another scorer on the same clicks; NaN without one.
        mean_ctr, mean_served: mean true and mean served probability.
    """

    served: float
    bayes: float
    rival: float
    impressions: int
    clicks: int
    mean_ctr: float
    mean_served: float


Documents = list[Mapping[str, object]]
Scorer = Callable[[Documents, Documents, list[int]], npt.NDArray[np.floating[Any]]]
"""Scores the n candidates of m requests, given their documents, the candidates, and how many each request has."""


def quality(
    world: World, samples: tuple[Sample, ...], *, shown: int = 100, seed: int = 0, rival: Scorer | None = None
) -> Quality:
    """Draws clicks for up to `shown` random candidates of each sampled request and ranks them by all scores."""
    rng = np.random.default_rng([world.seed, 3, seed])
    served: list[F64] = [np.empty(0)]
    truth: list[F64] = [np.empty(0)]
    documents: Documents = []
    candidates: Documents = []
    counts: list[int] = []
    for sample in samples:
        chosen = rng.permutation(len(sample.ads))[:shown]
        served.append(sample.ctr[chosen])
        truth.append(world.true_ctr(sample.user, sample.contexts, sample.ads[chosen]))
        if rival is not None:
            documents.append(world.document(sample.user, sample.contexts))
            counts.append(len(chosen))
            candidates += [world.ad(index) for index in sample.ads[chosen].tolist()]
    scores, ctr = np.concatenate(served), np.concatenate(truth)
    clicked = draw_clicks(rng, ctr)
    if not len(ctr):
        return Quality(float("nan"), float("nan"), float("nan"), 0, 0, float("nan"), float("nan"))
    return Quality(
        served=auc(clicked, scores),
        bayes=auc(clicked, ctr),
        rival=float("nan") if rival is None else auc(clicked, rival(documents, candidates, counts)),
        impressions=len(ctr),
        clicks=int(clicked.sum()),
        mean_ctr=float(ctr.mean()),
        mean_served=float(scores.mean()),
    )
