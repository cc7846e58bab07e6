"""Faults that a `TcpProxy` can have. Pure values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delay:
    """The bytes of each read wait `seconds`, in both directions."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Each connection, old or new, is reset (RST) in the middle of the next bytes."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """Each connection, old or new, ends (FIN) after `size` of its next bytes, or fewer."""

    size: int


@dataclass(frozen=True, slots=True)
class Duplicate:
    """All connections end at once, and each new one reaches the server twice.

    The second connection receives the first `size` bytes from the client; its replies are discarded. It ends with
    the first one.
    """

    size: int


@dataclass(frozen=True, slots=True)
class Throttle:
    """Each direction of a connection passes this many bytes per second."""

    bytes_per_s: float


NetworkFault = Delay | Cut | Truncate | Duplicate | Throttle
