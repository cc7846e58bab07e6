"""Request handlers of a supervisor's operations port: the workers' pages, combined."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Protocol

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry

from streamer.metrics import READY
from streamer.ops.status_page import StatusPage
from streamer.ops.worker_client import Reply, WorkerClient

_CONTROL_S = 120.0


class KeepsOrders(Protocol):
    """Keeps the orders that commands give."""

    turn: asyncio.Lock

    def executed(self, accepted: Mapping[int, str], rejected: Sequence[int]) -> None:
        """The workers have executed a command: their replies, and the workers that rejected it."""


class SupervisorHandlers:
    """Answers for all workers.

    Healthy means that the supervisor works, ready that all active workers score; metrics have the label `worker`;
    commands go to every worker. A worker that does not answer is named.

    Args:
        not_ready: the reason why the workers do not score all partitions; None if they do.
        registry: the supervisor's own metrics.
        orders: each command is executed in its turn.
    """

    def __init__(
        self,
        workers: WorkerClient,
        not_ready: Callable[[], str | None],
        registry: CollectorRegistry,
        orders: KeepsOrders,
    ) -> None:
        self._orders = orders
        self._workers = workers
        self._not_ready = not_ready
        self._registry = registry
        self._page = StatusPage()

    def routes(self) -> list[web.RouteDef]:
        """The routes of all pages."""
        return [
            web.get("/healthz", self._health),
            web.get("/readyz", self._ready),
            web.get("/metrics", self._metrics),
            web.get("/status", self._status),
            web.get("/workers", self._describe),
            web.get("/config", self._forward),
            web.get("/model", self._forward),
            web.post("/model/{rest:.*}", self._command),
        ]

    async def _health(self, request: web.Request) -> web.Response:
        """200, because the supervisor restarts its workers itself; a line for each worker."""
        return _listed(await self._workers.send_all("GET", request.path), HTTPStatus.OK)

    async def _ready(self, _: web.Request) -> web.Response:
        """A line for each worker, and the reason if the active workers do not score all partitions."""
        reason, states = await self._readiness()
        lines = "".join(f"worker {number}: {text}\n" for number, text in states.items())
        if reason is None:
            return web.Response(text=lines)
        return web.Response(text=f"{reason}\n{lines}", status=HTTPStatus.SERVICE_UNAVAILABLE)

    async def _readiness(self) -> tuple[str | None, dict[int, str]]:
        """The reason why not all partitions are scored, and the state of each worker.

        A state is `ready`, `standby`, or the reason why the worker is neither.
        """
        phases = {worker.number: worker.state for worker in self._workers.workers()}
        replies = await self._workers.send_all("GET", "/readyz")
        states = {
            number: phases[number] if status == HTTPStatus.OK and phases[number] != "active" else text.strip()
            for number, (status, text) in replies.items()
            if number in phases
        }
        failed = [n for n, (status, _) in replies.items() if phases.get(n) == "active" and status != HTTPStatus.OK]
        return self._not_ready() or next((states[n] for n in failed), None), states

    async def _describe(self, _: web.Request) -> web.Response:
        return web.json_response(
            [
                {
                    "worker": worker.number,
                    "pid": worker.pid,
                    "state": worker.state,
                    "partitions": sorted(number for _, number in worker.partitions),
                }
                for worker in self._workers.workers()
            ]
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        body = generate_latest(await self._merged())
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _status(self, request: web.Request) -> web.Response:
        states = {
            str(number): {"ready": "RUNNING", "standby": "STANDBY"}.get(text, text)
            for number, text in (await self._readiness())[1].items()
        }
        merged = await self._merged()
        return self._page.response(states, merged.collect(), reloads="pause" not in request.query)

    async def watch(self) -> None:
        """Keeps the history of the status page; until cancelled."""
        await self._page.watch(self._collect)

    async def _collect(self) -> Iterable[Metric]:
        return (await self._merged()).collect()

    async def _merged(self) -> "_MergedMetrics":
        # Together: a worker that does not answer delays the page by one timeout.
        found, (reason, _) = await asyncio.gather(self._workers.send_all("GET", "/metrics"), self._readiness())
        texts = {n: text if status == HTTPStatus.OK else None for n, (status, text) in found.items()}
        return _MergedMetrics(texts, self._registry, is_ready=reason is None)

    async def _forward(self, request: web.Request) -> web.Response:
        """Sends a request to every worker and lists the replies."""
        name = "config" if request.path == "/config" else "models"
        return _combined(name, await self._workers.send_all("GET", request.path_qs, _CONTROL_S))

    async def _command(self, request: web.Request) -> web.Response:
        """Sends a command to every worker. If a worker rejects it, the others still execute it."""
        async with self._orders.turn:
            found = await self._workers.send_all("POST", request.path_qs, _CONTROL_S)
            accepted = {number: text for number, (status, text) in found.items() if status == HTTPStatus.OK}
            self._orders.executed(accepted, [number for number in found if number not in accepted])
        return _combined("models", found)


def _combined(name: str, found: Mapping[int, Reply]) -> web.Response:
    """The JSON documents of all workers; after a failure, the replies that reject it."""
    failed = {number: reply for number, reply in found.items() if reply[0] != HTTPStatus.OK}
    if failed:
        return _listed(failed, max(status for status, _ in failed.values()))
    # Each text is a JSON document already.
    parts = (f'{{"worker": {n}, "{name}": {text}}}' for n, (_, text) in found.items())
    return web.Response(text=f"[{', '.join(parts)}]", content_type="application/json")


def _listed(replies: Mapping[int, Reply], status: int) -> web.Response:
    """A line for each reply."""
    lines = (f"worker {number}: {text.strip()}\n" for number, (_, text) in replies.items())
    return web.Response(text="".join(lines), status=status)


class _MergedMetrics(Collector):
    """The metrics of all workers with the label `worker`, and those of the supervisor.

    The text of a worker without an answer is None. The supervisor's own `streamer_ready` has no label `worker`.
    """

    def __init__(self, texts: Mapping[int, str | None], own: CollectorRegistry, *, is_ready: bool) -> None:
        self._texts = texts
        self._own = own
        self._is_ready = is_ready

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        up = Metric("streamer_supervisor_worker_up", "1 if the worker answers on its operations socket", "gauge")
        for number, text in self._texts.items():
            up.add_sample(up.name, {"worker": str(number)}, float(text is not None))
            for family in text_string_to_metric_families(text or ""):
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    merged.samples.append(sample._replace(labels={**sample.labels, "worker": str(number)}))
        ready = Metric(*READY, "gauge")
        ready.add_sample(ready.name, {}, float(self._is_ready))
        for family in (ready, *self._own.collect()):
            if (merged := families.setdefault(family.name, family)) is not family:
                merged.samples += family.samples
        return [*families.values(), up]
