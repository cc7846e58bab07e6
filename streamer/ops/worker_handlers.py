"""Request handlers of a worker's operations port."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric

from streamer.errors import PredictError
from streamer.feature_values import scraped_text
from streamer.metrics import READY
from streamer.ops.status_page import StatusPage


class ModelControl(Protocol):
    """An operator's commands for the versions of one model."""

    async def pin(self, version: int) -> None: ...

    async def canary(self, version: int | str, share: float) -> None: ...

    async def shadow(self, version: int, share: float) -> None: ...

    def unpin(self) -> None: ...

    def roll_back(self, reason: str) -> int: ...


class ModelControls(Protocol):
    """The models of a worker. The first one is the default."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def of(self, name: str) -> ModelControl | None: ...

    def describe(self) -> list[dict[str, object]]: ...


@dataclass(slots=True, eq=False)
class WorkerHandlers:
    """Answers /healthz, /readyz, /metrics, /status, /config and /model.

    Attributes:
        state: the state of the worker's life cycle.
        not_ready: the reason why the worker does not score records; None if it does.
        models: None before a model is prepared.
        config: the settings in use as JSON, without secrets.
    """

    registry: CollectorRegistry
    state: Callable[[], str]
    not_ready: Callable[[], str | None]
    models: Callable[[], ModelControls | None] = lambda: None
    config: str = field(default="{}", kw_only=True)
    _page: StatusPage = field(default_factory=StatusPage, init=False)

    def __post_init__(self) -> None:
        Gauge(*READY, registry=self.registry).set_function(lambda: self.not_ready() is None)

    def routes(self) -> list[web.RouteDef]:
        """The routes of all pages."""
        return [
            web.get("/healthz", self._healthz),
            web.get("/readyz", self._readyz),
            web.get("/metrics", self._metrics),
            web.get("/status", self._status),
            web.get("/config", self._describe_config),
            web.get("/model", self._describe_models),
            web.post(r"/model/pin/{version:\d{1,18}}", self._pin),
            web.post(r"/model/canary/{version:[^/]{1,128}}/{share:[0-9.]{1,18}}", self._canary),
            web.post(r"/model/shadow/{version:\d{1,18}}/{share:[0-9.]{1,18}}", self._shadow),
            web.post("/model/unpin", self._unpin),
            web.post("/model/rollback", self._roll_back),
        ]

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text=f"{self.state()}\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        reason = self.not_ready()
        return web.Response(text=f"{reason or 'ready'}\n", status=200 if reason is None else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=scraped_text(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _status(self, request: web.Request) -> web.Response:
        reason = self.not_ready()
        state = self.state() if reason is None else f"{self.state()}: {reason}"
        return self._page.response({"": state}, self.registry.collect(), reloads="pause" not in request.query)

    async def watch(self) -> None:
        """Keeps the history of the status page; until cancelled."""
        await self._page.watch(self._collect)

    async def _collect(self) -> Iterable[Metric]:
        return self.registry.collect()

    async def _describe_config(self, _: web.Request) -> web.Response:
        return web.Response(text=self.config, content_type="application/json")

    async def _describe_models(self, _: web.Request) -> web.Response:
        return web.json_response(self._all().describe())

    async def _pin(self, request: web.Request) -> web.Response:
        return await self._execute(request, self._control(request).pin(int(request.match_info["version"])))

    async def _canary(self, request: web.Request) -> web.Response:
        text = request.match_info["version"]
        version = int(text) if text.isdecimal() else text
        return await self._execute(request, self._control(request).canary(version, _share(request)))

    async def _shadow(self, request: web.Request) -> web.Response:
        version = int(request.match_info["version"])
        return await self._execute(request, self._control(request).shadow(version, _share(request)))

    async def _execute(self, request: web.Request, command: Awaitable[None]) -> web.Response:
        try:
            await command
        except PredictError as error:
            raise web.HTTPConflict(text=f"{error}\n") from error
        return await self._describe_models(request)

    async def _unpin(self, request: web.Request) -> web.Response:
        self._control(request).unpin()
        return await self._describe_models(request)

    async def _roll_back(self, request: web.Request) -> web.Response:
        try:
            self._control(request).roll_back("requested by an operator")
        except LookupError as error:
            raise web.HTTPConflict(text=f"{error}\n") from error
        return await self._describe_models(request)

    def _control(self, request: web.Request) -> ModelControl:
        """The model that a request names (`?model=`), otherwise the default one."""
        models = self._all()
        name = request.query.get("model", models.names[0])
        control = models.of(name)
        if control is None:
            raise web.HTTPNotFound(text=f"model {name!r} is not served here; {', '.join(map(repr, models.names))}\n")
        return control

    def _all(self) -> ModelControls:
        models = self.models()
        if models is None:
            raise web.HTTPServiceUnavailable(text="no model yet\n")
        return models


def _share(request: web.Request) -> float:
    """The share of users that a request's path names."""
    text = request.match_info["share"]
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise web.HTTPBadRequest(text=f"share {text}: expected a number from 0 to 1\n")
    return share
