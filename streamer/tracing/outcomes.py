"""How a request ended: what its span says beside times. Pure."""

from dataclasses import dataclass
from typing import Final

from streamer.types import DeadLetter, Origin, Record, ScoreMessage

DEAD: Final = "dead_letter"
"""The status of a record without an answer."""
# A record's own limit is 1 MiB, and the export's queue is bounded by its objects, not by their bytes.
_MAX_TEXT: Final = 300


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a request, without its large parts.

    Attributes:
        body_bytes: size of the record's value.
        request_id, reason: the first 300 characters.
        status: that of the answer, or `dead_letter`.
        candidates: their number, if they were scored; None: unknown.
    """

    origin: Origin
    body_bytes: int
    status: str
    request_id: str | None = None
    reason: str | None = None
    candidates: int | None = None
    model: str | None = None
    version: int | None = None
    batch_rows: int = 0


def outcome_of(record: Record, result: ScoreMessage | DeadLetter) -> Outcome:
    """The end of a record with this answer or dead letter."""
    size = len(record.value or b"")
    if isinstance(result, DeadLetter):
        return Outcome(record.origin, size, DEAD, reason=result.reason[:_MAX_TEXT])
    return Outcome(
        record.origin,
        size,
        result.status,
        result.request_id[:_MAX_TEXT],
        None if result.reason is None else result.reason[:_MAX_TEXT],
        None if result.ad_ids is None else len(result.ad_ids),
        None if result.model is None else result.model.name,
        None if result.model is None else result.model.version,
        result.batch_rows,
    )
