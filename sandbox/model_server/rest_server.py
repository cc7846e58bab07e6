"""The HTTP server of the REST API: an event loop on its own thread, calls on a pool of threads."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from aiohttp.hdrs import SERVER

from sandbox.model_server.flags import ServerFlags
from sandbox.model_server.manager import Manager
from sandbox.model_server.rest_api import RestApi
from sandbox.model_server.services import Services

_log = logging.getLogger(__name__)

_START_S = 30.0
_CLOSE_S = 5.0
_MOST_BODY = 2**31 - 1


class RestServer:
    """Serves a `RestApi` on one port of all interfaces.

    A connection has one request at a time, so at most one request of each connection waits for a thread.
    """

    def __init__(self, api: RestApi, port: int, threads: int) -> None:
        self._api = api
        self._port = port
        self._calls = ThreadPoolExecutor(max(threads, 1), thread_name_prefix="rest")
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest", daemon=True)

    def start(self) -> None:
        """Opens the port. Raises OSError if another process uses it."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(_START_S)

    def close(self) -> None:
        """Closes the port and all connections; calls that run get no answer."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(_CLOSE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._calls.shutdown(wait=False, cancel_futures=True)

    async def _open(self) -> None:
        app = web.Application(client_max_size=_MOST_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_response_prepare.append(_without_server_name)
        self._runner = web.AppRunner(app, auto_decompress=False, access_log=None, shutdown_timeout=0.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "0.0.0.0", self._port).start()  # noqa: S104  as tensorflow_model_server

    async def _close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        answer = await self._loop.run_in_executor(
            self._calls, self._api.answer, request.method, request.raw_path, request.headers, body
        )
        return web.Response(status=answer.status, body=answer.body, headers=dict(answer.headers))


def start_rest(flags: ServerFlags, manager: Manager, services: Services) -> RestServer | None:
    """Opens the REST port; None, after a log, if that is not possible: the gRPC API then serves alone."""
    if flags.rest_api_port == flags.port:
        _log.error(
            "server_options.http_port cannot be same as grpc_port. Please use a different port for HTTP/REST API. "
            "Skipped exporting HTTP/REST API."
        )
        return None
    server = RestServer(RestApi(services, manager, flags), flags.rest_api_port, flags.rest_api_num_threads)
    try:
        server.start()
    except OSError:
        _log.error("Failed to start HTTP Server at localhost:%d", flags.rest_api_port)
        return None
    _log.info("Exporting HTTP/REST API at:localhost:%d ...", flags.rest_api_port)
    return server


async def _without_server_name(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall(SERVER, None)
