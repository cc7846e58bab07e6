"""The HTTP server of the REST API: an event loop on a thread, calls on a pool of threads."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aiohttp import web
from aiohttp.hdrs import SERVER

_START_S = 30.0
_CLOSE_S = 5.0
_MOST_BODY = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]


_Answering = Callable[[str, str, Mapping[str, str], bytes], Answer]


class RestServer:
    """Answers HTTP requests on one port of all interfaces, `threads` of them at the same time.

    `answer` gets method, path as it was sent, headers and body. A connection has one request at a time, so at most one
    request of each connection waits for a thread.
    """

    def __init__(self, answer: _Answering, port: int, threads: int) -> None:
        self._answer = answer
        self._port = port
        self._calls = ThreadPoolExecutor(max(threads, 1), thread_name_prefix="rest")
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._thread = threading.Thread(target=self._run, name="rest", daemon=True)

    def start(self) -> None:
        """Opens the port. Raises OSError if another process uses it, or it is no port."""
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(_START_S)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Closes the port and all connections; calls that run get no answer."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(_CLOSE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_S)
        self._calls.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    async def _open(self) -> None:
        app = web.Application(client_max_size=_MOST_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_response_prepare.append(_without_server_name)
        self._runner = web.AppRunner(app, auto_decompress=False, access_log=None, shutdown_timeout=0.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, "0.0.0.0", self._port).start()  # noqa: S104  as tensorflow_model_server
        except OverflowError:
            raise OSError(f"{self._port} is no port") from None

    async def _close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        answer = await self._loop.run_in_executor(
            self._calls, self._answer, request.method, request.raw_path, request.headers, body
        )
        return web.Response(status=answer.status, body=answer.body, headers=dict(answer.headers))


async def _without_server_name(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall(SERVER, None)
