"""Has some requests, after their answers, scored by another version too. Nobody waits for it."""

import asyncio
from collections.abc import Callable
from typing import Literal

import numpy as np
from structlog.typing import FilteringBoundLogger

from streamer.codec import encode_scores
from streamer.errors import InvalidRequestError, MessageTooLargeError, PredictError
from streamer.kafka.sink import Sink
from streamer.metrics import Metrics
from streamer.prepared_version import PreparedVersion
from streamer.rollout.models import Models
from streamer.serving.predictor import Predictor
from streamer.settings.sections import ShadowSettings
from streamer.types import FROM_MODEL, BadRecord, BatchInputs, ModelVersion, Record, ScoreMessage

Outcome = Literal["scored", "failed", "dropped"]


class Shadow:
    """Scores requests one at a time, each in a call of its own, and publishes them on the shadow topic.

    Promises: an answer never waits for it, nor is changed by it; while rows of live requests wait for the model, or
    `max_queued_requests` wait for it, requests are dropped and counted; its failures are counted and logged, and say
    nothing to circuits, retries or the guard of versions. It is no part of delivery: what waits when a worker ends
    is not scored.
    """

    def __init__(
        self,
        models: Models,
        predictor: Predictor,
        sink: Sink,
        settings: ShadowSettings,
        *,
        metrics: Metrics,
        log: FilteringBoundLogger,
        is_busy: Callable[[], bool],
    ) -> None:
        self._models = models
        self._predictor = predictor
        self._sink = sink
        self._settings = settings
        self._metrics = metrics
        self._log = log
        self._is_busy = is_busy
        self._waiting: asyncio.Queue[tuple[PreparedVersion, Record]] = asyncio.Queue(settings.max_queued_requests)

    def offer(self, record: Record, answered_by: ModelVersion | None) -> None:
        """A record was answered; it is scored again if its user is among those of a version in the shadow."""
        serving = None if answered_by is None else self._models.shadow_for(answered_by, record.key)
        if serving is None:
            return
        try:
            self._waiting.put_nowait((serving, record))
        except asyncio.QueueFull:
            self._count("dropped")

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            serving, record = await self._waiting.get()
            if self._is_busy():
                self._count("dropped")
                continue
            try:
                async with asyncio.timeout(self._settings.timeout_ms / 1e3):
                    await self._score(serving, record)
            except (PredictError, InvalidRequestError, MessageTooLargeError, TimeoutError) as error:
                self._count("failed")
                self._log.warning("not scored in the shadow", model=str(serving.version), error=repr(error))
            else:
                self._count("scored")

    async def _score(self, serving: PreparedVersion, record: Record) -> None:
        request = serving.codec.decode(record.value, record.headers)
        if isinstance(request, BadRecord):
            raise InvalidRequestError("record", request.reason)
        encoded = serving.encoder.encode(request)
        seconds = self._settings.timeout_ms / 1e3
        ctr = await self._predictor.score_shadow(serving.version, BatchInputs.whole(encoded), seconds)
        message = ScoreMessage(
            request.request_id,
            "ok",
            record.origin,
            model=serving.version,
            ad_ids=encoded.ad_ids,
            ctr=ctr,
            sources=np.full(encoded.size, FROM_MODEL, dtype=np.int8),
            batch_rows=encoded.size,
        )
        await self._sink.shadow(record.key, encode_scores(message), record.headers)

    def _count(self, outcome: Outcome) -> None:
        self._metrics.shadow.labels(outcome).inc()
