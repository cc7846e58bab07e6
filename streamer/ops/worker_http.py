"""The operations port: is it alive, does it serve, what does it measure; and which model versions shall serve."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from streamer.errors import PredictError
from streamer.ops.http_port import OpsPort
from streamer.ops.status_page import StatusPage
from streamer.settings.sections import OpsSettings


class ModelControl(Protocol):
    """What an operator may do about the versions of one model."""

    async def pin(self, version: int) -> None: ...

    async def canary(self, version: int | str, share: float) -> None: ...

    async def shadow(self, version: int, share: float) -> None: ...

    def unpin(self) -> None: ...

    def roll_back(self, reason: str) -> int: ...


class ModelControls(Protocol):
    """All models of a worker."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def of(self, name: str) -> ModelControl | None: ...

    def describe(self) -> list[dict[str, object]]: ...


class OpsServer(OpsPort):
    """Serves /healthz, /readyz, /metrics, /status, /config and /model.

    `not_ready` says why records are not being scored, or None; `config` is the settings in force, JSON without secrets.
    """

    def __init__(
        self,
        settings: OpsSettings,
        registry: CollectorRegistry,
        state: Callable[[], str],
        not_ready: Callable[[], str | None],
        models: Callable[[], ModelControls | None] = lambda: None,
        *,
        config: str = "{}",
    ) -> None:
        self._registry = registry
        self._state = state
        self._not_ready = not_ready
        self._models = models
        self._config = config
        self._page = StatusPage()
        super().__init__(
            settings,
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/status", self._status),
                web.get("/config", self._describe_config),
                web.get("/model", self._describe_model),
                web.post(r"/model/pin/{version:\d{1,18}}", self._pin),
                web.post(r"/model/canary/{version:[^/]{1,128}}/{share:[0-9.]{1,18}}", self._canary),
                web.post(r"/model/shadow/{version:\d{1,18}}/{share:[0-9.]{1,18}}", self._shadow),
                web.post("/model/unpin", self._unpin),
                web.post("/model/rollback", self._roll_back),
            ],
        )

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text=f"{self._state()}\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        why = self._not_ready()
        return web.Response(text="ready\n" if why is None else f"{why}\n", status=200 if why is None else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _status(self, _: web.Request) -> web.Response:
        why = self._not_ready()
        state = self._state() if why is None else f"{self._state()}: {why}"
        return web.Response(text=self._page.render({"": state}, self._registry.collect()), content_type="text/html")

    async def _describe_config(self, _: web.Request) -> web.Response:
        return web.Response(text=self._config, content_type="application/json")

    async def _describe_model(self, _: web.Request) -> web.Response:
        return self._described()

    async def _pin(self, request: web.Request) -> web.Response:
        try:
            await self._control(request).pin(int(request.match_info["version"]))
        except PredictError as error:
            raise web.HTTPConflict(text=f"{error}\n") from error
        return self._described()

    async def _canary(self, request: web.Request) -> web.Response:
        asked = request.match_info["version"]
        version = int(asked) if asked.isdecimal() else asked
        return await self._share(request, partial(self._control(request).canary, version))

    async def _shadow(self, request: web.Request) -> web.Response:
        return await self._share(request, partial(self._control(request).shadow, int(request.match_info["version"])))

    async def _share(self, request: web.Request, give: Callable[[float], Awaitable[None]]) -> web.Response:
        """Gives a share of the users to a version."""
        try:
            share = float(request.match_info["share"])
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise web.HTTPBadRequest(text=f"share {request.match_info['share']}: expected a number from 0 to 1\n")
        try:
            await give(share)
        except PredictError as error:
            raise web.HTTPConflict(text=f"{error}\n") from error
        return self._described()

    async def _unpin(self, request: web.Request) -> web.Response:
        self._control(request).unpin()
        return self._described()

    async def _roll_back(self, request: web.Request) -> web.Response:
        try:
            self._control(request).roll_back("an operator asked for it")
        except LookupError as error:
            raise web.HTTPConflict(text=f"{error}\n") from error
        return self._described()

    def _described(self) -> web.Response:
        return web.json_response(self._all().describe())

    def _control(self, request: web.Request) -> ModelControl:
        """The model that a request names (`?model=`), or the default one."""
        models = self._all()
        name = request.query.get("model", models.names[0])
        control = models.of(name)
        if control is None:
            raise web.HTTPNotFound(text=f"model {name!r} is not served here; {', '.join(map(repr, models.names))}\n")
        return control

    def _all(self) -> ModelControls:
        models = self._models()
        if models is None:
            raise web.HTTPServiceUnavailable(text="no model yet\n")
        return models
