"""Bounds the requests that are being read or scored. Pure."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class FullError(Exception):
    """A bound is reached; the message names its setting."""


@dataclass(slots=True)
class Admission:
    """Counts the requests without a reply.

    Invariant: at most `max_requests` requests, with at most `max_bytes` bytes of body together.
    """

    max_requests: int
    max_bytes: int
    requests: int = 0
    bytes: int = 0

    @contextmanager
    def place(self) -> Iterator["Place"]:
        """The place of one request, counted until the block ends.

        Raises:
            FullError: there are as many requests as allowed.
        """
        if self.requests >= self.max_requests:
            raise FullError(f"{self.requests} requests are in flight (source.max_unacknowledged_records)")
        self.requests += 1
        place = Place(self)
        try:
            yield place
        finally:
            self.requests -= 1
            self.bytes -= place.bytes


@dataclass(slots=True)
class Place:
    """One request, with the bytes of its body that are in memory."""

    _admission: Admission
    bytes: int = 0

    def grow(self, size: int) -> None:
        """Counts bytes of the body.

        Raises:
            FullError: there are as many bytes as allowed; these are not counted.
        """
        admission = self._admission
        if admission.bytes + size > admission.max_bytes:
            raise FullError(f"{admission.bytes} bytes of requests are in flight (source.max_unacknowledged_bytes)")
        admission.bytes += size
        self.bytes += size
