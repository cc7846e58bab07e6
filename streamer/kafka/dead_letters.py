"""Writes and parses dead letters: records with their reason and origin in headers. Pure."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from streamer.errors import MessageTooLargeError
from streamer.types import DeadLetter, DeadLetterStage, Header, Origin

_PREFIX = "dead_letter."
REPLAYS = _PREFIX + "replays"
VALUE_BYTES = _PREFIX + "value_bytes"
UNREADABLE_STAGE: DeadLetterStage = "read"
"""Stage of the dead letters of records of which only the position is known."""

Send = Callable[[bytes | None, bytes | None, list[Header]], Awaitable[None]]
"""Publishes key, value and headers; raises MessageTooLargeError."""


def headers_of(letter: DeadLetter) -> list[Header]:
    """The record's own headers, then its reason and origin."""
    return [*letter.headers, *_facts(letter)]


async def publish_dead_letter(letter: DeadLetter, send: Send, log: FilteringBoundLogger) -> None:
    """Publishes the record unchanged, or without the parts that are too large for the topic.

    The value is left out first, then the key and the record's own headers.

    Raises:
        MessageTooLargeError: the topic does not accept the reason and origin alone.
    """
    log.warning("dead letter", reason=letter.reason, origin=str(letter.origin))
    headers = headers_of(letter)
    size = (VALUE_BYTES, str(len(letter.value or b"")).encode())
    for parts, left_out in (
        ((letter.key, letter.value, headers), "value"),
        ((letter.key, None, [*headers, size]), "value, key and headers"),
    ):
        try:
            await send(*parts)
        except MessageTooLargeError as error:
            log.error(  # noqa: TRY400  the broker's rejection needs no traceback
                "dead letter too large for its topic, retried without a part",
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
    # No reason may make a dead letter unwritable.
    return [(_PREFIX + name, text.encode(errors="backslashreplace")) for name, text in facts.items()]


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """A record of the dead-letter topic.

    Attributes:
        position: `partition:offset` in the dead-letter topic.
        at_ms: when it was written there, milliseconds since the epoch.
        letter: the record as it was, with reason and origin; empty or zero if its headers do not contain them.
        value_bytes: the size of a value that was too large for the topic and was left out, 0 if the record could not be
            read; None if it is complete.
        replays: how many times it was replayed before it came back.
    """

    position: str
    at_ms: int
    letter: DeadLetter
    value_bytes: int | None
    replays: int

    @classmethod
    def parse(
        cls, position: str, at_ms: int, key: bytes | None, value: bytes | None, headers: Sequence[Header]
    ) -> "StoredDeadLetter":
        """Parses a record of the dead-letter topic. If a header occurs twice, the last one counts."""
        # A header of the original record may have no value.
        facts = {name: (text or b"").decode(errors="replace") for name, text in headers if name.startswith(_PREFIX)}

        def text(name: str) -> str:
            return facts.get(_PREFIX + name, "")

        def number(name: str) -> int:
            return int(text(name)) if re.fullmatch(r"[0-9]{1,19}", text(name)) else 0

        own = [header for header in headers if not header[0].startswith(_PREFIX)]
        origin = Origin(text("topic"), number("partition"), number("offset"))
        letter = DeadLetter(key, value, own, origin, number("timestamp_ms"), text("stage"), text("reason"))
        is_complete = VALUE_BYTES not in facts and letter.stage != UNREADABLE_STAGE
        value_bytes = None if is_complete else number("value_bytes")
        return cls(position, at_ms, letter, value_bytes, number("replays"))

    def headers_for_replay(self) -> list[Header]:
        """The record's own headers, and how many times it was replayed, this time included."""
        return [*self.letter.headers, (REPLAYS, str(self.replays + 1).encode())]


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Selects dead letters. A field that is not given matches all.

    Attributes:
        reason: a part of the reason.
        positions: `partition:offset` in the dead-letter topic.
        since_ms: written to the topic at this time or later, milliseconds since the epoch.
    """

    reason: str = ""
    stage: str | None = None
    topic: str | None = None
    since_ms: int = 0
    positions: frozenset[str] = frozenset()

    def matches(self, stored: StoredDeadLetter) -> bool:
        """Whether all fields match."""
        letter = stored.letter
        return (
            self.reason in letter.reason
            and self.stage in (None, letter.stage)
            and self.topic in (None, letter.origin.topic)
            and stored.at_ms >= self.since_ms
            and (not self.positions or stored.position in self.positions)
        )
