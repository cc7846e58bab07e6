"""A record on its path through the stages, and the ends of the path."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streamer.deadline import Deadline
from streamer.prepared_version import PreparedVersion
from streamer.tracing.recording import RequestTrace
from streamer.types import BidRequest, DeadLetter, DeadLetterStage, EncodedRequest, Header, Origin, Record


class Schemas(Protocol):
    """What a schema registry says of records that have its prefix.

    Attributes:
        answer_prefix: that of binary answers to such records; empty if answers are JSON.
    """

    answer_prefix: bytes

    def rejection(self, record: Record) -> str | None:
        """Why it cannot be read by its schema; None if it can, or is not known yet."""
        ...


class Records(Protocol):
    """The source of records.

    `answered` ends the time of a record in flight; after `acknowledged` its offset may be committed.
    """

    def answered(self) -> None: ...
    def acknowledged(self, origin: Origin) -> None: ...


class Answers(Protocol):
    """The sink of answers. Both methods return when the brokers have acknowledged the message.

    `publish` raises MessageTooLargeError if the topic does not accept an answer of that size.
    """

    async def publish(self, origin: Origin, key: bytes | None, value: bytes, headers: Sequence[Header]) -> None: ...
    async def dead_letter(self, letter: DeadLetter) -> None: ...


@dataclass(slots=True)
class InFlight:
    """One record in flight. A stage sets the fields that later stages read."""

    record: Record
    deadline: Deadline
    trace: RequestTrace | None = None
    request_id: str | None = None
    decode_ms: float = 0.0
    encode_ms: float = 0.0
    is_retry: bool = False
    consent_denied: bool = False
    prepared: PreparedVersion = field(init=False)
    request: BidRequest = field(init=False)
    encoded: EncodedRequest = field(init=False)

    @property
    def names(self) -> dict[str, str]:
        """What names the record in the log beside its request id: the trace of a sampled one."""
        return {} if self.trace is None else {"trace_id": self.trace.trace_id}

    def dead_letter(self, stage: DeadLetterStage, reason: str) -> DeadLetter:
        """The record as a dead letter: this stage has failed."""
        record = self.record
        return DeadLetter(record.key, record.value, record.headers, record.origin, record.timestamp_ms, stage, reason)

    def answered(self) -> "InFlight":
        """The same without the request and its rows.

        They are large, and no bound counts them until the acknowledgement.
        """
        return InFlight(self.record, self.deadline, self.trace, self.request_id, consent_denied=self.consent_denied)
