"""The operations port: is it alive, does it serve, what does it measure."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from streamer.settings import OpsSettings


class OpsServer:
    """Serves /healthz, /readyz and /metrics. `not_ready` says why records are not being scored, or None."""

    def __init__(
        self,
        settings: OpsSettings,
        registry: CollectorRegistry,
        state: Callable[[], str],
        not_ready: Callable[[], str | None],
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._state = state
        self._not_ready = not_ready
        app = web.Application(client_max_size=1024)
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        self.port = settings.port

    async def start(self) -> None:
        """Listens.

        Raises:
            OSError: the port is taken.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._settings.host, self._settings.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Closes the port."""
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text=f"{self._state()}\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        why = self._not_ready()
        return web.Response(text="ready\n" if why is None else f"{why}\n", status=200 if why is None else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
