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
    3. At most 1 MiB waits to be sent; a process that reads no more counts as ended.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        sending: socket.socket,
        decoder: msgspec.json.Decoder[Received],
    ) -> None:
        self._reader = reader
        self._writer = writer
        # A socket of its own for sending: asyncio's transport closes at a failed write, and would lose the messages
        # that the other process sent before its death.
        self._sending = sending
        self._unsent = bytearray()
        self._decoder = decoder

    @classmethod
    async def over(cls, end: socket.socket, decoder: msgspec.json.Decoder[Received]) -> "Link[Received]":
        """A link over one end of a socket pair."""
        sending = end.dup()
        sending.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=end, limit=_MAX_LINE_BYTES)
        return cls(reader, writer, sending, decoder)

    def send(self, message: msgspec.Struct) -> None:
        """Sends a message, unless the link is closed."""
        if self._sending.fileno() < 0:
            return
        is_waiting = bool(self._unsent)
        self._unsent += msgspec.json.encode(message) + b"\n"
        if not is_waiting:
            self._flush()
            if self._unsent:
                asyncio.get_running_loop().add_writer(self._sending.fileno(), self._flush)
        elif len(self._unsent) > _MAX_UNSENT_BYTES:
            self.close()

    async def messages(self) -> AsyncIterator[Received]:
        """The messages of the other end, until it closes.

        Raises:
            ValueError: a line is no message of this version of the program, or is longer than 1 MiB.
        """
        try:
            # A line without its end: the other process was killed while it wrote.
            while (line := await self._reader.readline()).endswith(b"\n"):
                yield self._decoder.decode(line)
        except ConnectionError:
            return

    def close(self) -> None:
        """Closes this end; messages that wait to be sent are dropped."""
        self._stop_sending()
        self._writer.close()

    def _flush(self) -> None:
        try:
            del self._unsent[: self._sending.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            # The other process has ended. Its last messages may not have been received yet.
            self._stop_sending()
        if not self._unsent and self._sending.fileno() >= 0:
            asyncio.get_running_loop().remove_writer(self._sending.fileno())

    def _stop_sending(self) -> None:
        self._unsent.clear()
        if self._sending.fileno() >= 0:
            asyncio.get_running_loop().remove_writer(self._sending.fileno())
            self._sending.close()
