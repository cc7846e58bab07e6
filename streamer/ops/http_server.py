"""The HTTP server of the operations port, with its access check."""

import logging
from collections.abc import Iterable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from streamer.access import Access
from streamer.errors import ConfigError
from streamer.settings.deployment import OpsSettings


def _is_defect(record: logging.LogRecord) -> bool:
    """False for a malformed request and a client that left: aiohttp logs both with a traceback."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError | ConnectionError)


PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Pages that need no token."""
_LOGGER = logging.getLogger("streamer.ops")
_LOGGER.addFilter(_is_defect)


class HttpServer:
    """Serves routes on a TCP port, or on a Unix socket if `ops.socket` is set; checks `Access`."""

    def __init__(self, settings: OpsSettings, routes: Iterable[web.RouteDef]) -> None:
        self._settings = settings
        self._access = Access("ops", None if settings.socket else settings.host, settings.token, PROBES)
        app = web.Application(client_max_size=1024, middlewares=[self._check_access])
        app.add_routes(routes)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, logger=_LOGGER)
        self.port = settings.port

    async def start(self) -> None:
        """Starts to listen.

        Raises:
            ConfigError: the address is in use or cannot be used.
        """
        settings = self._settings
        await self._runner.setup()
        try:
            if settings.socket is not None:
                await web.UnixSite(self._runner, str(settings.socket)).start()
                return
            await web.TCPSite(self._runner, settings.host, settings.port).start()
        except OSError as error:
            raise ConfigError(f"ops: cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Closes the port."""
        await self._runner.cleanup()

    @web.middleware
    async def _check_access(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        rejection = self._access.rejection(request.method, request.path, request.headers)
        if rejection is not None:
            status, reason = rejection
            return web.Response(status=status, text=f"{reason}\n")
        return await handler(request)
