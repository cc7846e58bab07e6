"""A TCP proxy on loopback that can reset its connections, for tests and chaos."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

_CHUNK = 1 << 16
_WAIT_S = 30.0
# SO_LINGER of 0 s: the connection ends with RST instead of FIN, and undelivered bytes are lost.
_RESET = struct.pack("ii", 1, 0)


class TcpProxy:
    """Passes bytes between its own port and `target_port`, both on 127.0.0.1, in its own thread.

    Attributes:
        port: the port on which it listens.
        address: the same as `host:port`.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy to {target_port}", daemon=True)
        self._connections: set[asyncio.Task[None]] = set()
        self._cutting = False

    def __repr__(self) -> str:
        return f"<TcpProxy {self.port} to {self._target_port}>"

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(asyncio.start_server(self._accept, sock=self._listener))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_WAIT_S)
        self._loop.close()
        self._listener.close()

    def cut(self) -> None:
        """From now on resets each connection, old or new, in the middle of the next bytes."""
        self._loop.call_soon_threadsafe(setattr, self, "_cutting", True)

    def restore(self) -> None:
        """From now on passes bytes again."""
        self._loop.call_soon_threadsafe(setattr, self, "_cutting", False)

    def _run(self, work: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_WAIT_S)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._connect(reader, writer)
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        try:
            directions = ((reader, target_writer), (target_reader, writer))
            tasks = [asyncio.create_task(self._pass(*direction)) for direction in directions]
            # Kafka and gRPC do not use half-closed connections.
            _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._cutting:
                for each in (writer, target_writer):
                    _reset(each)
        finally:
            target_writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            if self._cutting:
                writer.write(chunk[: len(chunk) // 2])
                await writer.drain()
                return
            writer.write(chunk)
            await writer.drain()

    async def _end(self) -> None:
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
