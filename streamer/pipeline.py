"""One record's way through the stages: exactly one answer or one dead letter, then it is done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from streamer.codec import REQUEST_ID_HEADER, encode_scores, header_milliseconds, header_text
from streamer.deadline import Deadline
from streamer.errors import InvalidRequestError, MessageTooLargeError
from streamer.metrics import Metrics
from streamer.prepared_version import PreparedVersion
from streamer.rollout.models import Models
from streamer.scoring.scores import Scores
from streamer.side_outputs.feature_log import FeatureLog
from streamer.types import (
    FROM_PRIOR,
    BadRecord,
    BidRequest,
    DeadLetter,
    EncodedRequest,
    Header,
    ModelVersion,
    Origin,
    Record,
    ScoreMessage,
    StageTimes,
    Status,
)

# Of the time that is left, what a request waits for another version when its own has vanished.
_WAIT_SHARE = 0.7


class _GoneError(Exception):
    """The version that a request was to be scored by has vanished."""

    def __init__(self, version: ModelVersion, deadline: Deadline) -> None:
        super().__init__(f"{version} is gone")
        self.version = version
        self.deadline = deadline


class Records(Protocol):
    """Where records come from: it learns that what becomes of one is known, and that one is done with for good."""

    def answered(self) -> None: ...
    def done(self, origin: Origin) -> None: ...


class Aside(Protocol):
    """Whoever looks at records after their answers; nobody waits for it."""

    def offer(self, record: Record, answered_by: ModelVersion | None) -> None: ...


class Answers(Protocol):
    """Where answers go. Both methods return when the brokers have the message for good.

    `publish` raises MessageTooLargeError where the topic does not take an answer of that size.
    """

    async def publish(self, origin: Origin, key: bytes | None, value: bytes, headers: Sequence[Header]) -> None: ...
    async def dead_letter(self, letter: DeadLetter) -> None: ...


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages in their order.

    Invariant: a record is `done` only behind its answer or dead letter, so that a crash in between brings it back.
    """

    source: Records
    models: Models
    scores: Scores
    answers: Answers
    shadow: Aside
    feature_log: FeatureLog
    metrics: Metrics
    log: FilteringBoundLogger
    clock: Callable[[], float]
    max_budget_ms: float

    async def answer(self, record: Record) -> None:
        """Scores one record and publishes what came of it."""
        try:
            message, deadline = await self._score(record)
        finally:
            self.source.answered()
        if isinstance(message, DeadLetter):
            await self._bury(message)
        else:
            now = self.clock()
            message = replace(message, times=replace(message.times, total=(now - record.at) * 1e3))
            self.metrics.answered(message.status, message.times, deadline.remaining(now))
            answer = encode_scores(message)
            try:
                await self.answers.publish(record.origin, record.key, answer, record.headers)
            except MessageTooLargeError as error:
                await self._bury(self._dead(record, "publish", str(error)), message.request_id)
            else:
                self.shadow.offer(record, message.model)
        self.source.done(record.origin)

    async def _bury(self, letter: DeadLetter, request_id: str | None = None) -> None:
        self.log.warning("dead letter", request_id=request_id, reason=letter.reason, origin=str(letter.origin))
        await self.answers.dead_letter(letter)

    async def _score(self, record: Record) -> tuple[ScoreMessage | DeadLetter, Deadline]:
        try:
            return await self._score_once(record, last=False)
        except _GoneError as gone:
            # The version vanished under it: another one may yet score it, from the record on, for its spec may differ.
            model = self.models.of(gone.version.name)
            assert model is not None, "only models that are served are asked"
            await model.successor(gone.version, record.key, _WAIT_SHARE * gone.deadline.remaining(self.clock()))
            return await self._score_once(record, last=True)

    async def _score_once(self, record: Record, *, last: bool) -> tuple[ScoreMessage | DeadLetter, Deadline]:
        deadline = record.deadline
        if record.is_suspect:
            return self._dead(record, "crash", "the worker ended while it worked on this record alone"), deadline
        budget_ms = header_milliseconds(record.headers)
        request_id = header_text(record.headers, REQUEST_ID_HEADER)
        if budget_ms is not None:
            deadline = deadline.with_budget(min(budget_ms, self.max_budget_ms))
            if request_id is not None and deadline.expired(self.clock()):
                return ScoreMessage(request_id, "expired", record.origin), deadline
        try:
            serving, request = self._decode(record)
            if isinstance(request, BadRecord):
                return self._refused(record, request.request_id, "decode", request.reason), deadline
            request_id = request.request_id
            if request.deadline_ms is not None:
                deadline = record.deadline.with_budget(min(request.deadline_ms, self.max_budget_ms))
            return await self._score_request(record, request, deadline, serving, last=last), deadline
        except _GoneError:
            raise
        except Exception as error:
            # A bug of ours must neither stop the line nor lose the record: it is answered, and logged with its trace.
            self.log.exception("record failed", request_id=request_id, origin=str(record.origin))
            return self._refused(record, request_id, "pipeline", f"internal error: {error!r:.200}"), deadline

    def _decode(self, record: Record) -> tuple[PreparedVersion, BidRequest | BadRecord]:
        """What is to score the record, and what that one's own spec reads in it."""
        serving = self.models.default.serving_for(record.key)
        request = serving.codec.decode(record.value, record.headers)
        if isinstance(request, BadRecord) or request.model in (None, serving.version.name):
            return serving, request
        model = self.models.of(request.model)
        if model is None:
            served = ", ".join(map(repr, self.models.names))
            return serving, BadRecord(request.request_id, f"model: {request.model!r} is not served here; {served}")
        serving = model.serving_for(record.key)
        return serving, serving.codec.decode(record.value, record.headers)

    async def _score_request(
        self, record: Record, request: BidRequest, deadline: Deadline, serving: PreparedVersion, *, last: bool
    ) -> ScoreMessage | DeadLetter:
        decoded = self.clock()
        if deadline.expired(decoded) or self.scores.would_miss_deadline(serving.version, deadline):
            # The cheapest answer there is: under overload it is given more often than any other.
            return ScoreMessage(request.request_id, "expired", record.origin, times=_times(record, decoded))
        self.metrics.candidates.inc(request.size)
        try:
            encoded = serving.encoder.encode(request)
        except InvalidRequestError as error:
            return self._refused(record, request.request_id, "encode", str(error))
        if record.value is not None:
            self.models.remember(serving.version, record.value, record.headers)
        times = replace(_times(record, decoded), encode=(self.clock() - decoded) * 1e3)
        return await self._score_rows(
            record, request.request_id, encoded, deadline=deadline, serving=serving, times=times, last=last
        )

    async def _score_rows(
        self,
        record: Record,
        request_id: str,
        encoded: EncodedRequest,
        *,
        deadline: Deadline,
        serving: PreparedVersion,
        times: StageTimes,
        last: bool,
    ) -> ScoreMessage:
        scored = await self.scores.score(serving.version, encoded, deadline, serving.prior)
        if scored.gone and not last:
            raise _GoneError(serving.version, deadline)
        self.feature_log.offer(record.key, request_id, serving, encoded)
        unknown = scored.sources == FROM_PRIOR
        status: Status = "ok" if not unknown.any() else "fallback" if unknown.all() else "partial"
        return ScoreMessage(
            request_id=request_id,
            status=status,
            origin=record.origin,
            model=serving.version,
            ad_ids=encoded.ad_ids,
            ctr=scored.ctr,
            sources=scored.sources,
            reason=scored.reason,
            times=replace(times, queue=scored.queue_s * 1e3, predict=scored.predict_s * 1e3),
            batch_rows=scored.batch_rows,
        )

    def _refused(self, record: Record, request_id: str | None, stage: str, reason: str) -> ScoreMessage | DeadLetter:
        if request_id is not None:
            return ScoreMessage(request_id, "invalid", record.origin, reason=reason)
        return self._dead(record, stage, reason)

    @staticmethod
    def _dead(record: Record, stage: str, reason: str) -> DeadLetter:
        return DeadLetter(record.key, record.value, record.headers, record.origin, record.timestamp_ms, stage, reason)


def _times(record: Record, decoded: float) -> StageTimes:
    return StageTimes(decode=(decoded - record.at) * 1e3)
