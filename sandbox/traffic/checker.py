"""Compares every answer with its request. Pure: bytes and a time in, a verdict out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import orjson

from sandbox.traffic.ad_history import AdHistory
from sandbox.traffic.sent_requests import AlreadyAnswered, SentRequest, SentRequests
from sandbox.world.contexts import Contexts
from sandbox.world.population import F64, Ints

Fault = Literal[
    "bad_json",  # not JSON (NaN is not JSON), or no object with a string `request_id`
    "bad_status",  # a status that is not in STATUSES
    "bad_columns",  # `ad_id`, `ctr` or `source` is not a list, or is present although the status has no scores
    "wrong_count",  # columns with another length than the request's candidates
    "wrong_ads",  # ad ids that are not in the request
    "wrong_order",  # the ad ids of the request in another order
    "not_a_probability",  # a ctr that is null, not a number, or not in [0, 1]
    "bad_source",  # a source that is not in SOURCES, or a prior in an answer with status `ok`
    "bad_position",  # of the topic of ads: none, or one that is not its own
]
Verdict = Literal["right", "unknown", "duplicate"] | Fault
FAULTS: tuple[str, ...] = get_args(Fault)
STATUSES = ("ok", "partial", "fallback", "expired", "invalid")
SCORED = frozenset({"ok", "partial", "fallback"})
SOURCES = ("model", "cache", "prior")
STAGES = ("decode", "encode", "queue", "predict", "total")
_NUMBERS = frozenset({int, float})
_FIXED = ("received_at", "latency_ms", "batch_rows", "status", "version", "partition", "since_due_ms")


@dataclass(frozen=True, slots=True)
class ScoredById:
    """How a request that names n ads by id was scored.

    Attributes:
        version: of the model; 0 if the answer has none.
        positions: of the topic of ads, one by partition; behind: records of the topic after them, at the receipt.
        is_scored: bool [n], False for a prior.
    """

    request_id: str
    version: int
    positions: tuple[int, ...]
    behind: int
    is_scored: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sample:
    """One scored request: n candidates with their served scores, float64 [n].

    `by_id`: None unless it names ids only.
    """

    user: int
    contexts: Contexts
    ads: Ints
    ctr: F64
    by_id: ScoredById | None = None


@dataclass(frozen=True, slots=True)
class AnswerTimes:
    """One value for each of the latest `capacity` correct answers, in order of receipt.

    Attributes:
        received_at: float64 [n], monotonic seconds.
        latency_ms: float64 [n], from the send to the receipt.
        batch_rows: float64 [n], NaN if the answer has no value.
        status: int [n], indices into `STATUSES`.
        version: float64 [n], of the model; NaN if the answer has none.
        partition: int [n], of the request, as the answer's origin names it; -1 if it has none.
        stage_ms: float64 [n] by stage, as the scorer reports it; NaN if the answer has no value.
        since_due_ms: float64 [n], from the intended send time to the receipt: a slow sender shortens no latency.
    """

    received_at: F64
    latency_ms: F64
    batch_rows: F64
    status: Ints
    version: F64
    partition: Ints
    stage_ms: dict[str, F64]
    since_due_ms: F64


class Checker:
    """Checks answers one by one and counts the verdicts.

    - Every answer gets exactly one verdict.
    - Each request gets at most one verdict that is neither `unknown` nor `duplicate`.
    - An answer with a fault still answers its request.
    - With `history`, requests name ads by id only, and each answer with scores has a position of that topic.
    - Memory is bounded: it keeps the times of the latest `capacity` answers and a uniform sample of `samples` scored
      requests.
    """

    def __init__(
        self,
        sent_requests: SentRequests,
        ad_ids: Sequence[str],
        *,
        samples: int = 2_000,
        capacity: int = 400_000,
        seed: int = 0,
        history: AdHistory | None = None,
    ) -> None:
        self.sent_requests, self._ad_ids, self._history = sent_requests, ad_ids, history
        self._samples: list[Sample] = []
        self._sample_size, self._scored = samples, 0
        self._rng = np.random.default_rng(seed)
        self._times: npt.NDArray[np.float64] = np.empty((capacity, len(_FIXED) + len(STAGES)))
        self._answers = 0
        self.verdicts: Counter[Verdict] = Counter()
        self.statuses: Counter[str] = Counter()
        self.sources: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def check(self, value: bytes, received_at: float) -> Verdict:
        """Checks one answer that was received at `received_at`, monotonic seconds."""
        verdict = self._check(value, received_at)
        self.verdicts[verdict] += 1
        if verdict != "right" and verdict not in self.examples:
            self.examples[verdict] = value[:500].decode(errors="replace")
        return verdict

    @property
    def answered(self) -> int:
        """Number of distinct requests with an answer, correct or not."""
        return sum(n for verdict, n in self.verdicts.items() if verdict not in {"unknown", "duplicate", "bad_json"})

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The sample of scored requests, for `quality`."""
        return tuple(self._samples)

    def times(self) -> AnswerTimes:
        """The times of the latest answers, oldest first."""
        n, capacity = self._answers, len(self._times)
        rows = self._times[:n] if n <= capacity else np.roll(self._times, -(n % capacity), axis=0)
        rows = rows.copy()
        stages = {stage: rows[:, len(_FIXED) + i] for i, stage in enumerate(STAGES)}
        partition = np.nan_to_num(rows[:, 5], nan=-1.0).astype(np.intp)
        status = rows[:, 3].astype(np.intp)
        return AnswerTimes(rows[:, 0], rows[:, 1], rows[:, 2], status, rows[:, 4], partition, stages, rows[:, 6])

    def _check(self, value: bytes, received_at: float) -> Verdict:
        try:
            answer = orjson.loads(value)
        except orjson.JSONDecodeError:
            return "bad_json"
        if not isinstance(answer, dict) or not isinstance(request_id := answer.get("request_id"), str):
            return "bad_json"
        sent = self.sent_requests.answer(request_id)
        if sent is None:
            return "unknown"
        if isinstance(sent, AlreadyAnswered):
            return "duplicate"
        status = answer.get("status")
        if status not in STATUSES:
            return "bad_status"
        self.statuses[status] += 1
        if isinstance(model := answer.get("model"), dict):
            self.models[f"{model.get('name')}/{model.get('version')}"] += 1
        if status != "ok" and isinstance(reason := answer.get("reason"), str) and len(self.reasons) < 100:
            self.reasons[reason] += 1
        fault = self._check_columns(answer, status, sent)
        if fault is not None:
            return fault
        self._record_times(answer, status, received_at, sent)
        return "right"

    def _check_columns(self, answer: dict[str, Any], status: str, sent: SentRequest) -> Fault | None:
        ad_id, ctr, source = answer.get("ad_id"), answer.get("ctr"), answer.get("source")
        if status not in SCORED:
            return "bad_columns" if ad_id or ctr or source else None
        if not (isinstance(ad_id, list) and isinstance(ctr, list) and isinstance(source, list)):
            return "bad_columns"
        n = len(sent.ads)
        if not len(ad_id) == len(ctr) == len(source) == n:
            return "wrong_count"
        expected = itemgetter(*sent.ads.tolist(), 0)(self._ad_ids)[
            :-1
        ]  # one more index, so that the result is always a tuple
        if tuple(ad_id) != expected:
            # Compared as text, because the values may have any type and need not be hashable.
            return "wrong_order" if sorted(map(str, ad_id)) == sorted(expected) else "wrong_ads"
        if not _NUMBERS.issuperset(map(type, ctr)):
            return "not_a_probability"
        try:
            scores = np.array(ctr, dtype=np.float64)
        except OverflowError:  # an integer of hundreds of digits
            return "not_a_probability"
        if not (scores.min() >= 0.0 and scores.max() <= 1.0):
            return "not_a_probability"
        counts = [source.count(name) for name in SOURCES]
        if sum(counts) != n or (status == "ok" and counts[SOURCES.index("prior")]):
            return "bad_source"
        by_id = None
        if self._history is not None and (by_id := _scored_by_id(answer, self._history)) is None:
            return "bad_position"
        self.sources.update(dict(zip(SOURCES, counts, strict=True)))
        self._keep_sample(sent, scores, by_id)
        return None

    def _keep_sample(self, sent: SentRequest, scores: F64, by_id: ScoredById | None) -> None:
        """Reservoir sampling (Vitter's algorithm R)."""
        at = self._scored if self._scored < self._sample_size else int(self._rng.integers(0, self._scored + 1))
        self._scored += 1
        if at < self._sample_size:
            sample = Sample(sent.user, sent.contexts.one(sent.row), sent.ads, scores, by_id)
            if at == len(self._samples):
                self._samples.append(sample)
            else:
                self._samples[at] = sample

    def _record_times(self, answer: dict[str, Any], status: str, received_at: float, sent: SentRequest) -> None:
        ms, model, origin = answer.get("ms"), answer.get("model"), answer.get("origin")
        stages = [_number(ms.get(stage)) for stage in STAGES] if isinstance(ms, dict) else [np.nan] * len(STAGES)
        self._times[self._answers % len(self._times)] = (
            received_at,
            (received_at - sent.sent_at) * 1_000.0,
            _number(answer.get("batch_rows")),
            STATUSES.index(status),
            _number(model.get("version")) if isinstance(model, dict) else np.nan,
            _number(origin.get("partition")) if isinstance(origin, dict) else np.nan,
            (received_at - sent.due_at) * 1_000.0,
            *stages,
        )
        self._answers += 1


def _scored_by_id(answer: dict[str, Any], history: AdHistory) -> ScoredById | None:
    """None if the answer's position is not one of the topic."""
    ads, model, ends = answer.get("ads"), answer.get("model"), history.ends
    found = ads.get("positions") if isinstance(ads, dict) and ads.get("topic") == history.topic else None
    if not isinstance(found, list) or [type(each) for each in found] != [int] * len(ends) or min(found) < 0:
        return None
    version = model.get("version") if isinstance(model, dict) else None
    return ScoredById(
        answer["request_id"],
        version if isinstance(version, int) else 0,
        tuple(found),
        sum(ends) - sum(found),
        np.array([source != "prior" for source in answer["source"]], dtype=np.bool_),
    )


def _number(value: object) -> float:
    return float(value) if type(value) in _NUMBERS and abs(value) < 1e12 else float("nan")  # type: ignore[arg-type]
