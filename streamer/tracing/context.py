"""The trace context of W3C, as the headers `traceparent` and `tracestate` have it. Pure.

https://www.w3.org/TR/trace-context/
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from streamer.types import Header

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
SAMPLED: Final = 1
_KNOWN_FLAGS: Final = 3
"""Sampled, and random trace id; others are not passed on."""
# Later versions may add fields at the end.
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_TRACESTATE = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,1022}[\x21-\x7e])?")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The identity of a span: 128 bits for its trace, 64 for itself; `state`: the `tracestate`."""

    trace_id: int
    span_id: int
    flags: int = SAMPLED
    state: str = ""

    @property
    def is_sampled(self) -> bool:
        """Whether the trace is recorded."""
        return bool(self.flags & SAMPLED)

    @property
    def traceparent(self) -> str:
        """The value of the header for spans below this one."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"

    def child(self, span_id: int) -> "TraceContext":
        """Another span of the same trace."""
        return TraceContext(self.trace_id, span_id, self.flags, self.state)

    def metadata(self) -> Sequence[tuple[str, str]]:
        """The headers of a call."""
        parent = (TRACEPARENT, self.traceparent)
        return (parent, (TRACESTATE, self.state)) if self.state else (parent,)

    def replaced_in(self, headers: Iterable[Header]) -> list[Header]:
        """A record's headers with this context in place of their own; `tracestate` stays as it is."""
        return [*(h for h in headers if h[0] != TRACEPARENT), (TRACEPARENT, self.traceparent.encode())]


def one_of(name: str, values: Sequence[str]) -> str | None:
    """One value of an HTTP header: the last `traceparent`, all of `tracestate`, else the first."""
    if name == TRACESTATE:
        return ",".join(values)
    return values[-1 if name == TRACEPARENT else 0] if values else None


def parent_in(headers: Iterable[Header]) -> TraceContext | None:
    """The context in a record's headers; None without a valid one.

    Of several headers the last one counts. Without a valid `traceparent`, `tracestate` has no meaning; one that no
    header could have is left out.
    """
    parent = state = None
    for name, value in headers:
        if name == TRACEPARENT:
            parent = value
        elif name == TRACESTATE:
            state = value
    found = None if parent is None else _TRACEPARENT.fullmatch(parent)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    trace_id, span_id = int(trace, 16), int(span, 16)
    if version == b"ff" or (version == b"00" and more is not None) or not trace_id or not span_id:
        return None
    text = state.decode() if state and _TRACESTATE.fullmatch(state) else ""
    return TraceContext(trace_id, span_id, int(flags, 16) & _KNOWN_FLAGS, text)
