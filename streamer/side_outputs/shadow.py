"""Shadow scoring: a shadow version scores answered requests again, for its own topic."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from streamer.codec import encode_answer, size_in_memory
from streamer.errors import InvalidRequestError
from streamer.prepared_version import PreparedVersion
from streamer.side_outputs.side_output import SideOutput
from streamer.types import (
    F32,
    FROM_MODEL,
    FROM_PRIOR,
    BadRecord,
    BatchInputs,
    Header,
    ModelVersion,
    Record,
    ScoreMessage,
)

ShadowOf = Callable[[ModelVersion, bytes | None], PreparedVersion | None]
"""The shadow version for a user's key, if it is not the version that answered; otherwise None."""
Score = Callable[[ModelVersion, BatchInputs, float], Awaitable[F32]]
"""Scores rows, with a timeout in seconds. It has no effect on circuits, retries and the guard of versions."""
Publish = Callable[[bytes | None, bytes, Sequence[Header]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Shadow:
    """Scores answered requests in calls of their own, while no rows of live requests wait."""

    output: SideOutput
    shadow_of: ShadowOf
    score: Score
    publish: Publish
    unknown_get_priors: bool = False

    def offer(self, record: Record, answered_by: ModelVersion | None) -> None:
        """Queues a record that was answered, if a shadow version scores its user."""
        prepared = None if answered_by is None else self.shadow_of(answered_by, record.key)
        if prepared is not None:
            work = partial(self._publish, record, prepared)
            size = size_in_memory(record.key, record.value, record.headers)
            self.output.add(f"{record.origin} by {prepared.version}", work, size)

    async def _publish(self, record: Record, prepared: PreparedVersion) -> None:
        request = prepared.codec.decode(record.value, record.headers)
        if isinstance(request, BadRecord):
            raise InvalidRequestError("record", request.reason)
        encoded = prepared.encoder.encode(request)
        timeout_s = self.output.limits.timeout_ms / 1e3
        ctr = await self.score(prepared.version, BatchInputs.whole(encoded), timeout_s)
        unknown = np.isnan(ctr)
        if self.unknown_get_priors and encoded.unknown is not None:
            unknown |= encoded.unknown
        message = ScoreMessage(
            request.request_id,
            "partial" if unknown.any() else "ok",
            record.origin,
            model=prepared.version,
            ad_ids=encoded.ad_ids,
            ctr=np.where(unknown, np.float32(prepared.prior), ctr),
            sources=np.where(unknown, FROM_PRIOR, FROM_MODEL).astype(np.int8),
            batch_rows=encoded.size,
            position=encoded.position,
        )
        answer, headers = encode_answer(message, record.headers, "json")
        await self.publish(record.key, answer, headers)
