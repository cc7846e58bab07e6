"""The HTTP server of the operations port, with its access check."""

import hmac
from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler

from streamer.errors import ConfigError
from streamer.settings.deployment import OpsSettings

_PUBLIC = frozenset({"/healthz", "/readyz"})


class HttpServer:
    """Serves routes on a TCP port, or on a Unix socket if `ops.socket` is set.

    If `ops.token` is set, every path except /healthz and /readyz needs the token.
    """

    def __init__(self, settings: OpsSettings, routes: Iterable[web.RouteDef]) -> None:
        self._settings = settings
        app = web.Application(client_max_size=1024, middlewares=[self._check_token])
        app.add_routes(routes)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
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
    async def _check_token(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        token = self._settings.token
        if token is not None and request.path not in _PUBLIC:
            sent = request.headers.get("Authorization", "").encode(errors="surrogateescape")
            if not hmac.compare_digest(sent, f"Bearer {token.get_secret_value()}".encode()):
                raise web.HTTPUnauthorized(text="ops.token: expected as `Authorization: Bearer …`\n")
        return await handler(request)
