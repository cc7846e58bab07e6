"""The connection between a supervisor and one of its workers: a socket pair with JSON lines."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

import msgspec

_MAX_LINE_BYTES = 2**20
_MAX_UNSENT_BYTES = 2**20

Received = TypeVar("Received")


class Link(Generic[Received]):
    """One end of the connection.

    1. Messages arrive in their order; the last one before the other end's death arrives, too.
    2. The end of the iteration means that the other process has ended.
    3. At most 1 MiB waits to be sent; a process that does not read for so long counts as ended.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, decoder: msgspec.json.Decoder[Received]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = decoder

    @classmethod
    async def over(cls, end: socket.socket, decoder: msgspec.json.Decoder[Received]) -> "Link[Received]":
        """A link over one end of a socket pair."""
        return cls(*await asyncio.open_unix_connection(sock=end, limit=_MAX_LINE_BYTES), decoder)

    def send(self, message: msgspec.Struct) -> None:
        """Sends a message, unless the link is closed."""
        if self._writer.is_closing():
            return
        if self._writer.transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            self._writer.transport.abort()
            return
        self._writer.write(msgspec.json.encode(message) + b"\n")

    async def messages(self) -> AsyncIterator[Received]:
        """The messages of the other end, until it closes.

        Raises:
            msgspec.ValidationError: a message of another version of the program.
        """
        try:
            # A line without its end: the other process was killed while it wrote.
            while (line := await self._reader.readline()).endswith(b"\n"):
                yield self._decoder.decode(line)
        except ConnectionError:
            return

    def close(self) -> None:
        """Closes this end."""
        self._writer.close()
