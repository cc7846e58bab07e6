"""What a dead letter says of itself, in headers of its own beside those of the record that it was."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from streamer.errors import MessageTooLargeError
from streamer.types import DeadLetter, Header, Origin

_PREFIX = "dead_letter."
REPLAYS = _PREFIX + "replays"
VALUE_BYTES = _PREFIX + "value_bytes"


Send = Callable[[bytes | None, bytes | None, list[Header]], Awaitable[None]]
"""Takes key, value and headers; raises MessageTooLargeError."""


def headers_of(letter: DeadLetter) -> list[Header]:
    """The record's own headers, and what is known about it."""
    return [*letter.headers, *_facts(letter)]


async def bury(letter: DeadLetter, send: Send, log: FilteringBoundLogger) -> None:
    """Sends a record as it was; where that is too large for the topic, without its value; at the worst, where it was.

    Raises:
        MessageTooLargeError: the topic does not even take that.
    """
    headers = headers_of(letter)
    size = (VALUE_BYTES, str(len(letter.value or b"")).encode())
    for form, left_out in (
        ((letter.key, letter.value, headers), "value"),
        ((letter.key, None, [*headers, size]), "value, key and headers"),
    ):
        try:
            await send(*form)
        except MessageTooLargeError as error:
            log.error(  # noqa: TRY400  the broker's refusal needs no traceback
                "a dead letter is too large for its topic, a part is left out",
                left_out=left_out,
                origin=str(letter.origin),
                error=str(error),
            )
        else:
            return
    await send(None, None, [*_facts(letter), size])


def _facts(letter: DeadLetter) -> list[Header]:
    origin = letter.origin
    facts = {
        "reason": letter.reason,
        "stage": letter.stage,
        "topic": origin.topic,
        "partition": str(origin.partition),
        "offset": str(origin.offset),
        "timestamp_ms": str(letter.timestamp_ms),
    }
    return [(_PREFIX + name, text.encode()) for name, text in facts.items()]


@dataclass(frozen=True, slots=True)
class Buried:
    """A record as it lies in the dead-letter topic.

    Attributes:
        partition, offset: where it lies.
        at_ms: when it was put there, milliseconds since the epoch.
        letter: the record as it was, and why it is here; empty and zero where its headers do not say.
        value_bytes: the size of a value that was too large for this topic and was left out; None where it is whole.
        replays: how often it has been sent again before it came here.
    """

    partition: int
    offset: int
    at_ms: int
    letter: DeadLetter
    value_bytes: int | None
    replays: int

    @property
    def position(self) -> str:
        """Where it lies, as commands take it."""
        return f"{self.partition}:{self.offset}"

    def headers_for_replay(self) -> list[Header]:
        """The record's own headers, and how often it has been sent again."""
        return [*self.letter.headers, (REPLAYS, str(self.replays + 1).encode())]


def read(
    partition: int, offset: int, at_ms: int, *, key: bytes | None, value: bytes | None, headers: Sequence[Header]
) -> Buried:
    """Reads a record of the dead-letter topic; of a header that stands twice, the last one counts."""
    # Of the headers before ours, which are the record's own, one may be without a value.
    facts = {name: (content or b"").decode(errors="replace") for name, content in headers if name.startswith(_PREFIX)}

    def number(name: str) -> int:
        text = facts.get(name, "")
        return int(text) if text.isdecimal() else 0

    def text(name: str) -> str:
        return facts.get(_PREFIX + name, "")

    return Buried(
        partition,
        offset,
        at_ms,
        DeadLetter(
            key=key,
            value=value,
            headers=[header for header in headers if not header[0].startswith(_PREFIX)],
            origin=Origin(text("topic"), number(_PREFIX + "partition"), number(_PREFIX + "offset")),
            timestamp_ms=number(_PREFIX + "timestamp_ms"),
            stage=text("stage"),
            reason=text("reason"),
        ),
        value_bytes=number(VALUE_BYTES) if VALUE_BYTES in facts else None,
        replays=number(REPLAYS),
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters are meant. What is not given matches all.

    Attributes:
        reason: a part of the reason.
        positions: where they lie, `partition:offset`.
        since_ms: put there at this time or later, milliseconds since the epoch.
    """

    reason: str = ""
    stage: str | None = None
    topic: str | None = None
    since_ms: int = 0
    positions: frozenset[str] = frozenset()

    def matches(self, buried: Buried) -> bool:
        """Whether this one is meant."""
        letter = buried.letter
        return (
            self.reason in letter.reason
            and self.stage in (None, letter.stage)
            and self.topic in (None, letter.origin.topic)
            and buried.at_ms >= self.since_ms
            and (not self.positions or buried.position in self.positions)
        )
