"""Collects the body of a request in its bounds, and decompresses it. Pure."""

import zlib

_GZIP = 16 + zlib.MAX_WBITS


class TooLargeError(Exception):
    """A body, or what it decompresses to, is larger than a record may be."""


class BadBodyError(Exception):
    """A body that cannot be decompressed."""


class Body:
    """The parts of a body, decompressed as they come; never more than `limit` bytes in memory."""

    def __init__(self, limit: int, *, is_gzip: bool) -> None:
        self._limit = limit
        self._inflater = zlib.decompressobj(_GZIP) if is_gzip else None
        self._parts: list[bytes] = []
        self.size = 0

    def add(self, part: bytes) -> int:
        """Adds a part as it was received; returns the bytes that are kept of it.

        Raises:
            TooLargeError: with it the body is larger than the limit.
            BadBodyError: it is not gzip.
        """
        if self._inflater is not None:
            part = self._inflated(self._inflater, part)
        if self.size + len(part) > self._limit:
            raise TooLargeError
        self._parts.append(part)
        self.size += len(part)
        return len(part)

    def _inflated(self, inflater: "zlib._Decompress", part: bytes) -> bytes:
        try:
            # One byte more than allowed shows that there is more.
            content = inflater.decompress(part, self._limit + 1 - self.size)
        except zlib.error as error:
            raise BadBodyError(f"not valid gzip: {error}") from error
        if inflater.unused_data:
            raise BadBodyError("bytes after the end of gzip")
        return content

    def whole(self) -> bytes:
        """The body after its last part.

        Raises:
            BadBodyError: gzip without an end.
        """
        if self._inflater is not None and not self._inflater.eof:
            raise BadBodyError("gzip without an end")
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
