"""Readiness of a supervisor: its own reason, then that of an active worker; page, metric and status agree."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from streamer.ops.http_server import HttpServer
from streamer.ops.supervisor_handlers import SupervisorHandlers
from streamer.ops.worker_client import WorkerClient, WorkerView
from streamer.ops.worker_handlers import WorkerHandlers
from streamer.settings.deployment import OpsSettings
from tests.streamer.ops.test_any_request import Forgets
from tests.streamer.ops.test_worker_handlers import ask

State = Literal["active", "standby", "down"]


@asynccontextmanager
async def supervisor(
    folder: Path, states: list[State], reasons: list[str | None], own: Callable[[], str | None] = lambda: None
) -> AsyncIterator[str]:
    """A supervisor's port, with a worker for each state and its reason not to be ready."""
    servers = []
    for number, reason in enumerate(reasons):
        worker = WorkerHandlers(
            CollectorRegistry(), lambda: "RUNNING", partial(str, reason) if reason else lambda: None
        )
        servers.append(HttpServer(OpsSettings(socket=folder / f"{number}.sock"), worker.routes()))
    views = [WorkerView(number, None if state == "down" else 1, state) for number, state in enumerate(states)]
    client = WorkerClient(lambda: views, lambda number: folder / f"{number}.sock")
    handlers = SupervisorHandlers(client, own, CollectorRegistry(), Forgets())
    port = HttpServer(OpsSettings(port=0), handlers.routes())
    for server in (*servers, port):
        await server.start()
    try:
        yield f"127.0.0.1:{port.port}"
    finally:
        for server in (port, *servers):
            await server.stop()


@pytest.mark.parametrize(
    ("states", "reasons", "own", "reason"),
    [
        (["active", "standby"], [None, None], None, None),
        (
            ["active", "active"],
            [None, "no scores of ctr for 12 s: UNAVAILABLE"],
            None,
            "no scores of ctr for 12 s: UNAVAILABLE",
        ),
        (["active", "standby"], [None, "waiting for the model server"], None, None),
        (["active", "down"], [None], None, None),
        (["active", "standby"], [None, None], "no worker reads bids/3", "no worker reads bids/3"),
    ],
)
async def test_page_metric_and_health_agree(
    tmp_path: Path, states: list[State], reasons: list[str | None], own: str | None, reason: str | None
) -> None:
    async with supervisor(tmp_path, states, reasons, lambda: own) as address:
        status, text = await ask(address, "/readyz")
        assert status == (200 if reason is None else 503)
        lines = text.splitlines()
        assert len(lines) == len(states) + (reason is not None)
        assert reason is None or lines[0] == reason
        assert (await ask(address, "/healthz"))[0] == 200
        metrics = (await ask(address, "/metrics"))[1]
    (ready,) = (family for family in text_string_to_metric_families(metrics) if family.name == "streamer_ready")
    found = {sample.labels.get("worker"): sample.value for sample in ready.samples}
    assert found[None] == (reason is None)
    assert [found[str(number)] for number in range(len(reasons))] == [reason is None for reason in reasons]


async def test_a_page_waits_once_for_a_worker_that_does_not_answer(tmp_path: Path) -> None:
    both = asyncio.Barrier(2)

    async def answer(request: web.Request) -> web.Response:
        await both.wait()  # of /metrics and of /readyz, which ask concurrently
        return web.Response()

    worker = HttpServer(OpsSettings(socket=tmp_path / "0.sock"), [web.get("/{page}", answer)])
    client = WorkerClient(lambda: [WorkerView(0, 1, "active")], lambda number: tmp_path / f"{number}.sock")
    handlers = SupervisorHandlers(client, lambda: None, CollectorRegistry(), Forgets())
    port = HttpServer(OpsSettings(port=0), handlers.routes())
    for server in (worker, port):
        await server.start()
    try:
        async with asyncio.timeout(5.0):
            assert (await ask(f"127.0.0.1:{port.port}", "/metrics"))[0] == 200
    finally:
        for server in (port, worker):
            await server.stop()
