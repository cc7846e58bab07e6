"""A TCP proxy on loopback that can have faults, for tests and chaos."""

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from sandbox.host.network_faults import Cut, Delay, Duplicate, NetworkFault, Throttle, Truncate

_CHUNK = 1 << 16
_WAIT_S = 30.0
_THROTTLE_STEP_S = 0.02
# SO_LINGER of 0 s: the connection ends with RST instead of FIN, and undelivered bytes are lost.
_RESET = struct.pack("ii", 1, 0)
_Fault = TypeVar("_Fault", bound=NetworkFault)


class TcpProxy:
    """Passes bytes between its own port and `target_port`, both on 127.0.0.1, in its own thread.

    With `tls`, clients connect with TLS, and the bytes to the target are plain.

    Faults of different kinds can be active together; of two of one kind, the older one acts.

    Attributes:
        port: the port on which it listens.
        address: the same as `host:port`.
    """

    def __init__(self, target_port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self._target_port, self._tls = target_port, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy to {target_port}", daemon=True)
        self._connections: set[asyncio.Task[None]] = set()
        self._faults: list[NetworkFault] = []

    def __repr__(self) -> str:
        return f"<TcpProxy {self.port} to {self._target_port}, {self._faults}>"

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(asyncio.start_server(self._accept, sock=self._listener, ssl=self._tls))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_WAIT_S)
        self._loop.close()
        self._listener.close()

    def begin(self, fault: NetworkFault) -> None:
        """From now on it has this fault."""
        self._run(self._begin(fault))

    def end(self, fault: NetworkFault) -> None:
        """From now on it does not have this fault. Raises ValueError if it has no such fault."""
        self._run(self._remove(fault))

    def _run(self, work: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_WAIT_S)

    async def _begin(self, fault: NetworkFault) -> None:
        self._faults.append(fault)
        if isinstance(fault, Duplicate):
            await self._end()

    async def _remove(self, fault: NetworkFault) -> None:
        self._faults.remove(fault)

    def _active(self, kind: type[_Fault]) -> _Fault | None:
        return next((fault for fault in self._faults if isinstance(fault, kind)), None)

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
        ends = [writer, target_writer]
        tasks: list[asyncio.Task[None]] = []
        try:
            copy: asyncio.StreamWriter | None = None
            size = 0
            if (fault := self._active(Duplicate)) is not None:
                size = fault.size
                discarded, copy = await asyncio.open_connection("127.0.0.1", self._target_port)
                ends.append(copy)
                tasks.append(asyncio.create_task(_discard(discarded)))
            passing = [
                asyncio.create_task(self._pass(reader, target_writer, copy, size)),
                asyncio.create_task(self._pass(target_reader, writer)),
            ]
            tasks += passing
            # Kafka and gRPC do not use half-closed connections.
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
            if self._active(Cut) is not None:
                for each in ends:
                    _reset(each)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for each in ends[1:]:
                each.transport.abort()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        copy: asyncio.StreamWriter | None = None,
        size: int = 0,
    ) -> None:
        """Passes bytes until an end or a fault; the first `size` bytes also to `copy`."""
        while chunk := await reader.read(_CHUNK):
            if (delay := self._active(Delay)) is not None:
                await asyncio.sleep(delay.seconds)
            if self._active(Cut) is not None:
                writer.write(chunk[: len(chunk) // 2])
                await writer.drain()
                return
            if (truncate := self._active(Truncate)) is not None:
                writer.write(chunk[: truncate.size])
                await writer.drain()
                return
            if copy is not None and size > 0:
                copy.write(chunk[:size])
                size -= len(chunk)
            await self._write(writer, chunk)

    async def _write(self, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest and (throttle := self._active(Throttle)) is not None:
            step = max(1, round(throttle.bytes_per_s * _THROTTLE_STEP_S))
            writer.write(rest[:step])
            rest = rest[step:]
            await asyncio.sleep(_THROTTLE_STEP_S)
        writer.write(rest)
        await writer.drain()

    async def _end(self) -> None:
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _discard(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while await reader.read(_CHUNK):
            pass


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
