"""The operations port of several workers: their pages, asked for and put together."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from pathlib import Path

import aiohttp
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry

from streamer.ops.http_port import OpsPort
from streamer.ops.status_page import StatusPage
from streamer.settings.sections import OpsSettings

_ASK_S = 10.0
_CONTROL_S = 120.0


class WorkerPages(OpsPort):
    """Answers for all workers: healthy if all are, ready if all are, metrics with the label `worker`, controls told to
    all. Each worker has a socket of its own; one that does not answer is named.
    """

    def __init__(self, settings: OpsSettings, sockets: Mapping[int, Path], is_pausing: Callable[[int], bool]) -> None:
        self._token = settings.token
        self._sockets = sockets
        self._is_pausing = is_pausing
        self._page = StatusPage()
        super().__init__(
            settings,
            [
                web.get("/healthz", self._health),
                web.get("/readyz", self._health),
                web.get("/metrics", self._metrics),
                web.get("/status", self._status),
                web.get("/config", self._configs),
                web.get("/model", self._models),
                web.post("/model/{rest:.*}", self._models),
            ],
        )

    async def is_ready(self, number: int) -> bool:
        """Whether a worker scores records."""
        return (await self._ask(number, "GET", "/readyz", _ASK_S))[0] == HTTPStatus.OK

    async def _health(self, request: web.Request) -> web.Response:
        """200 if every worker says so; a line for each."""
        found = await self._ask_all("GET", request.path, _ASK_S)
        worst = max(status for status, _ in found.values())
        lines = (f"worker {number}: {text.strip()}\n" for number, (_, text) in found.items())
        return web.Response(text="".join(lines), status=worst)

    async def _metrics(self, _: web.Request) -> web.Response:
        registry = CollectorRegistry()
        registry.register(await self._merged())
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _status(self, _: web.Request) -> web.Response:
        said = {str(n): text.strip() for n, (_, text) in (await self._ask_all("GET", "/readyz", _ASK_S)).items()}
        states = {n: "RUNNING" if text == "ready" else text for n, text in said.items()}
        merged = await self._merged()
        return web.Response(text=self._page.render(states, merged.collect()), content_type="text/html")

    async def _merged(self) -> "_Merged":
        found = await self._ask_all("GET", "/metrics", _ASK_S)
        texts = {n: text for n, (status, text) in found.items() if status == HTTPStatus.OK}
        return _Merged(texts, {n: n in texts for n in self._sockets})

    async def _configs(self, request: web.Request) -> web.Response:
        """Each worker's: they differ while they are restarted one by one."""
        return await self._told(request, "config")

    async def _models(self, request: web.Request) -> web.Response:
        """Tells every worker; where one refuses, its reason, and what the others made of it stays."""
        return await self._told(request, "models")

    async def _told(self, request: web.Request, name: str) -> web.Response:
        found = await self._ask_all(request.method, request.path_qs, _CONTROL_S)
        refused = {n: (status, text) for n, (status, text) in found.items() if status != HTTPStatus.OK}
        if refused:
            lines = (f"worker {number}: {text.strip()}\n" for number, (_, text) in refused.items())
            return web.Response(text="".join(lines), status=max(status for status, _ in refused.values()))
        # Each text is JSON of its own; the worker's number goes beside it.
        parts = (f'{{"worker": {n}, "{name}": {text}}}' for n, (_, text) in found.items())
        return web.Response(text=f"[{', '.join(parts)}]", content_type="application/json")

    async def _ask_all(self, method: str, path: str, seconds: float) -> dict[int, tuple[int, str]]:
        answers = await asyncio.gather(*(self._ask(number, method, path, seconds) for number in self._sockets))
        return dict(zip(self._sockets, answers, strict=True))

    async def _ask(self, number: int, method: str, path: str, seconds: float) -> tuple[int, str]:
        """Status and text of a worker's page; 503 where it does not answer."""
        if self._is_pausing(number):
            return HTTPStatus.SERVICE_UNAVAILABLE, "does not run"
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token.get_secret_value()}"}
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(str(self._sockets[number])), timeout=timeout, headers=headers
                ) as session,
                session.request(method, f"http://worker{path}") as response,
            ):
                return response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, f"does not answer: {error!r}"


class _Merged(Collector):
    """The metrics of some workers as one family each, told apart by the label `worker`."""

    def __init__(self, texts: Mapping[int, str], up: Mapping[int, bool]) -> None:
        self._texts = texts
        self._up = up

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for number, text in self._texts.items():
            for family in text_string_to_metric_families(text):
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    merged.samples.append(sample._replace(labels={**sample.labels, "worker": str(number)}))
        up = Metric("streamer_supervisor_worker_up", "1 while a worker answers", "gauge")
        for number, is_up in self._up.items():
            up.add_sample(up.name, {"worker": str(number)}, float(is_up))
        return [*families.values(), up]
