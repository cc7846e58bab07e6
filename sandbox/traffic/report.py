"""Figures of sent requests and checked answers. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sandbox.traffic.checker import AnswerTimes, Checker, Sample
from sandbox.traffic.sent_requests import SentRequests
from sandbox.world.population import F64, Ints


@dataclass(frozen=True, slots=True)
class PerSecond:
    """Figures of each second of the run, for plots; n seconds, NaN in a second without answers.

    Attributes:
        second: int [n], from the first receipt; answers: int [n], number of answers received in it.
        p50_ms, p99_ms: float64 [n], end-to-end latency; batch_rows: float64 [n], mean rows of the answers' batches.
    """

    second: Ints
    answers: Ints
    p50_ms: F64
    p99_ms: F64
    batch_rows: F64


@dataclass(frozen=True, slots=True)
class WithoutAnswer:
    """The requests without an answer, n of them.

    Attributes:
        sent_at: float64 [n], monotonic seconds.
        partition: int [n], in which the broker stored the request; -1 if it did not acknowledge it.
    """

    sent_at: F64
    partition: Ints


@dataclass(frozen=True, slots=True)
class Deliveries:
    """The requests that the broker has stored, n of them.

    Attributes:
        sent_at: float64 [n], monotonic seconds; delay_s: float64 [n], until the acknowledgement. The producer and the
            brokers cause it, not the scorer.
    """

    sent_at: F64
    delay_s: F64


@dataclass(frozen=True, slots=True)
class TrafficReport:
    """The results of all requests.

    Attributes:
        requests_sent: number of requests that the broker accepted, or may have accepted.
        answered: requests with an answer; dead_lettered: requests with a dead letter instead; lost: requests with
            neither when the report was made.
        duplicates: answers after the first to the same request; unknown: answers to no request that was sent.
        wrong: number of answers by fault; they count as answered unless they are not JSON.
        statuses, models, reasons: number of answers by status, by model and by reason of a failure.
        sources: number of candidates by source.
        dead_letters: number of records on the dead-letter topic since the start; None if it is not read.
        dead_letter_reasons: the same by the reason in the headers.
        times: latency, stages and batch rows of each correct answer.
        deliveries: when the broker acknowledged each request.
        without_answer: the requests without an answer, dead-lettered ones included.
        examples: the first 500 bytes of the first answer of each verdict except `right`.
    """

    requests_sent: int
    answered: int
    dead_lettered: int
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
    deliveries: Deliveries
    without_answer: WithoutAnswer
    samples: tuple[Sample, ...]
    examples: Mapping[str, str]

    @property
    def clean(self) -> bool:
        """Whether each request has exactly one answer, and each answer is correct."""
        return not (self.dead_lettered or self.lost or self.duplicates or self.unknown or self.wrong)


def report_of(
    checker: Checker,
    sent_requests: SentRequests,
    dead_letters: int | None = None,
    dead_letter_reasons: Mapping[str, int] | None = None,
) -> TrafficReport:
    """The report of the answers and requests until now."""
    verdicts: dict[str, int] = dict(checker.verdicts.items())
    rest = {"right", "unknown", "duplicate"}
    missing = sent_requests.without_answer()
    delays = np.array(sent_requests.delays(), dtype=np.float64).reshape(-1, 2)
    return TrafficReport(
        requests_sent=sent_requests.sent - sent_requests.undelivered,
        answered=checker.answered,
        dead_lettered=sent_requests.dead_lettered,
        lost=sent_requests.unanswered,
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
        deliveries=Deliveries(delays[:, 0], delays[:, 1]),
        without_answer=WithoutAnswer(
            np.array([request.sent_at for request in missing], dtype=np.float64),
            np.array([-1 if request.partition is None else request.partition for request in missing], dtype=np.intp),
        ),
        samples=checker.samples,
        examples=dict(checker.examples),
    )


def per_second(times: AnswerTimes) -> PerSecond:
    """Figures of the answers' times for each second."""
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
