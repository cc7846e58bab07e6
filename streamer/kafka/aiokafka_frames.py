"""Reads large replies of brokers without copies.

Written for the version of `aiokafka_patches`. aiokafka copies the reply to a fetch three times, through a buffer that
it enlarges step by step: with replies of 4 MiB that is half of the time of reading, and much of a worker's memory.
"""

import asyncio
import io
import struct
from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
from aiokafka import conn
from aiokafka.conn import AIOKafkaConnection, AIOKafkaProtocol

_LARGE_BYTES = 2**15
_BUFFER_BYTES = 2**17  # more than the usual record
_SIZE = struct.Struct(">i")
_NOTHING = memoryview(b"")


class FrameProtocol(asyncio.BufferedProtocol):
    """Cuts received bytes into frames.

    The rest of a large frame is written to its place at once. It has aiokafka's protocol inside, because event loops
    ask no subclass of `asyncio.Protocol` for a buffer.
    """

    def __init__(self, closed: Any, reader: asyncio.StreamReader, *, loop: asyncio.AbstractEventLoop) -> None:
        self._inner: Any = AIOKafkaProtocol(closed, reader, loop=loop)
        self._loop = loop
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._begun = b""
        self._frame = _NOTHING
        self._rest = _NOTHING
        self._frames = deque[bytes | memoryview]()
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __getattr__(self, name: str) -> Any:
        # `asyncio.StreamWriter` calls private methods of its protocol.
        return getattr(self._inner, name)

    async def frame(self) -> bytes | memoryview:
        """The next frame, without its size.

        Raises:
            EOFError: the broker has closed the connection.
            OSError: the connection is lost.
        """
        while not self._frames:
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._frames.popleft()

    def get_buffer(self, _: int) -> memoryview:
        """Where the event loop writes received bytes."""
        return self._rest or self._buffer

    def buffer_updated(self, count: int) -> None:
        """The event loop has written bytes."""
        if self._rest:
            self._rest = self._rest[count:]
            if not self._rest:
                self._frames.append(self._frame if len(self._frame) > _LARGE_BYTES else bytes(self._frame))
                self._frame, self._rest = _NOTHING, _NOTHING  # a view would keep the frame in memory
                self._wake()
            return
        data, at = self._buffer[:count], 0
        if self._begun:
            data = memoryview(self._begun + data)
        while len(data) - at >= _SIZE.size:
            (size,) = _SIZE.unpack_from(data, at)
            at += _SIZE.size
            if size > len(data) - at:
                self._frame = np.empty(size, dtype=np.uint8).data  # a bytearray would be filled with zeros
                self._frame[: len(data) - at] = data[at:]
                self._rest = self._frame[len(data) - at :]
                at = len(data)
            elif size >= 0:
                self._frames.append(bytes(data[at : at + size]))
                at += size
            else:
                self._end(ValueError(f"a frame of {size} bytes"))
                return
        self._begun = bytes(data[at:])
        self._wake()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._end(exc or EOFError())
        self._inner.connection_lost(exc)

    def eof_received(self) -> bool | None:
        """The broker has closed the connection."""
        self._end(EOFError())
        keeps_open: bool | None = self._inner.eof_received()
        return keeps_open

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The transport's buffer has room."""
        self._inner.resume_writing()

    def _end(self, error: Exception) -> None:
        self._error = self._error or error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class FrameConnection(AIOKafkaConnection):  # type: ignore[misc]  # aiokafka has no types
    """A connection whose protocol is a `FrameProtocol`."""

    @staticmethod
    async def _read(self_ref: Any) -> None:
        protocol = self_ref()._protocol  # noqa: SLF001
        while True:
            frame = await protocol.frame()
            connection = self_ref()
            if connection is None:
                return
            connection._handle_frame(frame)  # noqa: SLF001
            del connection, frame


class _Frame:
    """A large frame as aiokafka's decoder reads it.

    A large part, the batches of a partition, is not copied.
    """

    def __init__(self, frame: bytes | memoryview) -> None:
        self._frame = memoryview(frame)
        self._at = 0

    def read(self, size: int) -> bytes | memoryview:
        part = self._frame[self._at : self._at + size]
        self._at += len(part)
        return part if size > _LARGE_BYTES else bytes(part)


def reader_of(frame: bytes | memoryview) -> Any:
    """What aiokafka reads a frame with, in place of `BytesIO`."""
    return _Frame(frame) if len(frame) > _LARGE_BYTES else io.BytesIO(frame)


def apply() -> None:
    """Makes all later connections use these classes; aiokafka has no setting for this."""
    conn.AIOKafkaConnection, conn.AIOKafkaProtocol = FrameConnection, FrameProtocol
    conn.io = SimpleNamespace(BytesIO=reader_of)
