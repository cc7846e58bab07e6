"""The path of one record: one answer or one dead letter."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from streamer import slices, unknown_ads
from streamer.ads import TablePosition
from streamer.codec import REQUEST_ID_HEADER, encode_answer, header_milliseconds, header_text, unknown_model
from streamer.deadline import Deadline
from streamer.errors import InvalidRequestError, MessageTooLargeError
from streamer.formats.frames import has_prefix
from streamer.in_flight import Answers, InFlight, Records, Schemas
from streamer.metrics import Metrics
from streamer.rollout.registry import ModelRegistry
from streamer.scoring.scores import Scores
from streamer.settings.sections import AnswerForm, UnknownAds
from streamer.side_outputs.feature_log import FeatureLog
from streamer.side_outputs.shadow import Shadow
from streamer.tracing.outcomes import outcome_of
from streamer.tracing.tracer import Tracer
from streamer.types import (
    BadRecord,
    BidRequest,
    Cause,
    DeadLetter,
    DeadLetterStage,
    Record,
    ScoreMessage,
    StageTimes,
    Status,
)

# A request whose version has vanished waits this share of its remaining time for another version.
_WAIT_SHARE = 0.7
# A record above this size is decoded in its own turn of the event loop.
_LARGE_BYTES = 2**18
Result = ScoreMessage | DeadLetter
OVERLOAD: Cause = "overload"
DEFECT: Cause = "defect"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages in their order.

    A record is acknowledged only after its answer or dead letter is, so that a crash in between brings it back.
    """

    source: Records
    models: ModelRegistry
    scores: Scores
    answers: Answers
    shadow: Shadow
    feature_log: FeatureLog
    metrics: Metrics
    log: FilteringBoundLogger
    clock: Callable[[], float]
    answer_form: AnswerForm
    max_budget_ms: float
    unknown_ads: UnknownAds
    tracer: Tracer | None = None
    schemas: Schemas | None = None
    """Those of a schema registry."""
    large: asyncio.Semaphore = field(default_factory=asyncio.Semaphore)
    """The turn of one large request at a time."""

    async def answer(self, record: Record) -> None:
        """Takes a record through all stages."""
        await self.result(record)

    async def result(self, record: Record) -> Result:
        """Takes a record through all stages; returns the message that was published."""
        flight = InFlight(record, record.deadline)
        if self.tracer is not None:
            flight.trace = self.tracer.begin(record)
        try:
            result = await self._score(flight)
        finally:
            self.source.answered()
        flight = flight.answered()
        sent: Result = result
        if isinstance(result, DeadLetter):
            await self.answers.dead_letter(result)
        else:
            sent = await self._publish(flight, result)
        self.source.acknowledged(record.origin)
        if flight.trace is not None:
            flight.trace.finish(outcome_of(record, sent))
        return result

    async def _score(self, flight: InFlight) -> Result:
        """Runs the stages; each returns the record's result, or None for the next stage."""
        try:
            while True:
                result = (
                    self._reject_suspect(flight)
                    or self._expire_unread(flight)
                    or await self._await_turn(flight)
                    or self._decode(flight)
                    or self._expire(flight)
                    or await self._encode(flight)
                    or await self._score_rows(flight)
                )
                if result is not None:
                    return result
                # The version has vanished. Another one scores the record from the start, because its spec may differ.
                await self._await_successor(flight)
        except Exception as error:
            # A defect neither stops the other records nor loses this one: it is answered, and logged with its trace.
            origin = str(flight.record.origin)
            self.log.exception("record failed", request_id=flight.request_id, origin=origin, **flight.names)
            return self._rejected(flight, "pipeline", f"internal error: {error!r:.200}")

    def _reject_suspect(self, flight: InFlight) -> Result | None:
        if flight.record.unreadable is not None:
            return flight.dead_letter("read", flight.record.unreadable)
        if not flight.record.is_suspect:
            return None
        return flight.dead_letter("crash", "workers ended while they worked on this record alone")

    def _expire_unread(self, flight: InFlight) -> Result | None:
        """Expires a request by its headers alone, without parsing it."""
        headers = flight.record.headers
        budget_ms = header_milliseconds(headers)
        flight.request_id = header_text(headers, REQUEST_ID_HEADER)
        if budget_ms is not None:
            flight.deadline = self._deadline(flight, budget_ms)
            if flight.request_id is not None and flight.deadline.expired(self.clock()):
                return ScoreMessage(flight.request_id, "expired", flight.record.origin, times=self._times(flight))
        return None

    async def _await_turn(self, flight: InFlight) -> Result | None:
        """Lets the loop go on before each large record, whose decoding takes milliseconds."""
        if flight.record.value is not None and len(flight.record.value) > _LARGE_BYTES:
            async with self.large:
                await asyncio.sleep(0)
            return self._expire_unread(flight)
        return None

    def _decode(self, flight: InFlight) -> Result | None:
        """Reads the record by the spec of the version that serves its user and model."""
        record = flight.record
        flight.prepared = self.models.default.serving_for(record.key)
        request = flight.prepared.codec.decode(record.value, record.headers)
        if isinstance(request, BidRequest) and request.model not in (None, flight.prepared.version.name):
            named = self.models.of(request.model)
            if named is None:
                request = BadRecord(request.request_id, unknown_model(request.model, self.models.names))
            else:
                flight.prepared = named.serving_for(record.key)
                request = flight.prepared.codec.decode(record.value, record.headers)
        flight.request_id = request.request_id
        if self.schemas is not None and (reason := self.schemas.rejection(record)) is not None:
            return self._rejected(flight, "decode", reason)
        if isinstance(request, BadRecord):
            return self._rejected(flight, "decode", request.reason)
        flight.request = request
        if request.deadline_ms is not None:
            flight.deadline = self._deadline(flight, request.deadline_ms)
        flight.decode_ms, flight.encode_ms = (self.clock() - record.at) * 1e3, 0.0
        if flight.trace is not None:
            flight.trace.stage("decode")
        return None

    def _expire(self, flight: InFlight) -> Result | None:
        """Expires a request that cannot be scored in time: the most frequent answer under overload."""
        is_late = flight.deadline.expired(self.clock())
        if not (is_late or self.scores.would_miss_deadline(flight.prepared.version, flight.deadline)):
            return None
        assert flight.request_id is not None, "decoded"
        origin, cause = flight.record.origin, None if is_late else OVERLOAD
        return ScoreMessage(flight.request_id, "expired", origin, times=self._times(flight), cause=cause)

    async def _encode(self, flight: InFlight) -> Result | None:
        start, record, prepared = self.clock(), flight.record, flight.prepared
        self.metrics.candidates.inc(flight.request.size)
        try:
            if not slices.are_needed(prepared.encoder, flight.request):
                flight.encoded = prepared.encoder.encode(flight.request)
            elif (result := await self._encode_in_slices(flight)) is not None:
                return result
        except InvalidRequestError as error:
            return self._rejected(flight, "encode", str(error))
        count = self.metrics.unknown_ads.inc
        if reason := unknown_ads.check(flight.encoded, self.unknown_ads, prepared.codec.paths, count):
            return self._rejected(flight, "encode", reason, flight.encoded.position)
        if prepared.encoder.out_of_range:
            self.metrics.count_out_of_range(prepared.encoder.out_of_range)
        flight.consent_denied = flight.encoded.consent_denied
        if flight.consent_denied:
            self.metrics.consent_denied.inc()
        elif record.value is not None:
            model = self.models.of_version(prepared.version)
            model.encoded(record.value, record.headers, flight.request, prepared)
        del flight.request  # parsed, the document can take 20 times the bytes of the record
        flight.encode_ms = (self.clock() - start) * 1e3
        if flight.trace is not None:
            flight.trace.stage("encode")
        return None

    async def _encode_in_slices(self, flight: InFlight) -> Result | None:
        """Encodes a request of many candidates; the loop goes on after each slice.

        One such request at a time: otherwise all that wait would be late together. They wait as bytes and are
        decoded again, because no bound counts their documents.
        """
        waits = self.large.locked()
        if waits:
            del flight.request
        async with self.large:
            await asyncio.sleep(0)
            if (expired := self._expire(flight)) is not None:
                return expired
            if waits:
                request = flight.prepared.codec.decode(flight.record.value, flight.record.headers)
                if isinstance(request, BadRecord):  # a column is read only now
                    return self._rejected(flight, "decode", request.reason)
                flight.request = request
            for encoded in slices.encode(flight.prepared.encoder, flight.request):
                if encoded is None:
                    await asyncio.sleep(0)
                else:
                    flight.encoded = encoded
        return None

    async def _score_rows(self, flight: InFlight) -> Result | None:
        """Scores the candidates. None: the version has vanished, and another one may yet score them."""
        prepared, encoded, request_id = flight.prepared, flight.encoded, flight.request_id
        assert request_id is not None, "decoded"
        scored = await self.scores.score(prepared.version, encoded, flight.deadline, prepared.prior, flight.trace)
        if scored.gone and not flight.is_retry:
            return None
        if not flight.consent_denied:
            self.feature_log.offer(flight.record.key, request_id, prepared, encoded, **flight.names)
        status: Status = "ok" if not scored.missing else "fallback" if scored.missing == encoded.size else "partial"
        return ScoreMessage(
            request_id=request_id,
            status=status,
            origin=flight.record.origin,
            model=prepared.version,
            ad_ids=encoded.ad_ids,
            ctr=scored.ctr,
            sources=scored.sources,
            reason=scored.reason,
            times=self._times(flight, queue=scored.queue_s * 1e3, predict=scored.predict_s * 1e3),
            batch_rows=scored.batch_rows,
            position=encoded.position,
            cause=OVERLOAD if scored.overloaded and status == "fallback" else None,
        )

    async def _await_successor(self, flight: InFlight) -> None:
        """Waits for a successor of the vanished version; then the record is scored once more."""
        version = flight.prepared.version
        model = self.models.of_version(version)
        await model.successor(version, flight.record.key, _WAIT_SHARE * flight.deadline.remaining(self.clock()))
        flight.is_retry = True
        flight.deadline = flight.record.deadline

    async def _publish(self, flight: InFlight, message: ScoreMessage) -> Result:
        """Publishes the answer, or the dead letter of one that is too large; returns it."""
        record = flight.record
        self.metrics.answered(message.status, message.times, flight.deadline.remaining(self.clock()))
        answer, headers = encode_answer(
            message,
            record.headers,
            self.answer_form,
            framed=has_prefix(record.value, record.headers),
            prefix=b"" if self.schemas is None else self.schemas.answer_prefix,
        )
        if flight.trace is not None:
            headers = flight.trace.answered(headers, flight.deadline)
        try:
            await self.answers.publish(record.origin, record.key, answer, headers)
        except MessageTooLargeError as error:
            letter = flight.dead_letter("publish", str(error))
            await self.answers.dead_letter(letter)
            return letter
        if not flight.consent_denied:
            self.shadow.offer(record, message.model)
        return message

    def _deadline(self, flight: InFlight, budget_ms: float) -> Deadline:
        return flight.record.deadline.with_budget(min(budget_ms, self.max_budget_ms))

    def _rejected(
        self, flight: InFlight, stage: DeadLetterStage, reason: str, position: TablePosition | None = None
    ) -> Result:
        if (name := flight.request_id) is None:
            return flight.dead_letter(stage, reason)
        origin, times, cause = flight.record.origin, self._times(flight), DEFECT if stage == "pipeline" else None
        return ScoreMessage(name, "invalid", origin, reason=reason, times=times, cause=cause, position=position)

    def _times(self, flight: InFlight, queue: float = 0.0, predict: float = 0.0) -> StageTimes:
        """The times of an answer that is published at once."""
        total = (self.clock() - flight.record.at) * 1e3
        return StageTimes(flight.decode_ms, flight.encode_ms, queue, predict, total)
