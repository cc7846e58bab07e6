"""The operations port itself: where it listens, and whom it lets in."""

import hmac
from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler

from streamer.settings.sections import OpsSettings

_OPEN = frozenset({"/healthz", "/readyz"})


class OpsPort:
    """Serves routes on a TCP port, or on a socket where one is set. Where a token is set, only who sends it sees more
    than whether the process lives and serves.
    """

    def __init__(self, settings: OpsSettings, routes: Iterable[web.RouteDef]) -> None:
        self._settings = settings
        app = web.Application(client_max_size=1024, middlewares=[self._admit])
        app.add_routes(routes)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        self.port = settings.port

    async def start(self) -> None:
        """Listens.

        Raises:
            OSError: the port is taken.
        """
        await self._runner.setup()
        if self._settings.socket is not None:
            await web.UnixSite(self._runner, str(self._settings.socket)).start()
            return
        await web.TCPSite(self._runner, self._settings.host, self._settings.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Closes the port."""
        await self._runner.cleanup()

    @web.middleware
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        token = self._settings.token
        if token is not None and request.path not in _OPEN:
            sent = request.headers.get("Authorization", "").encode(errors="surrogateescape")
            if not hmac.compare_digest(sent, f"Bearer {token.get_secret_value()}".encode()):
                raise web.HTTPUnauthorized(text="ops.token: expected as `Authorization: Bearer …`\n")
        return await handler(request)
