"""The health checks, against a local server that is healthy, unhealthy or down."""

import asyncio
import re
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from tests.deploy.compose import Compose

LOADED = (
    '{\n "model_version_status": [\n  {\n   "version": "1",\n   "state": "AVAILABLE",\n   "status": {}\n  }\n ]\n}\n'
)
TIMEOUT_S = 120.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the checks are written for Linux containers")


@asynccontextmanager
async def serving(status: int, body: str) -> AsyncIterator[int]:
    """A server on a free port that answers every GET in the same way; yields the port."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body)

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def command(service: Compose, port: str, replacement: str) -> list[str]:
    """The command line of the check, for another port."""
    kind, *words = service["healthcheck"]["test"]
    assert any(port in word for word in words)
    words = [word.replace(port, replacement) for word in words]
    assert kind == "CMD-SHELL"
    return ["sh", "-c", re.sub(r"^python ", f"{sys.executable} ", words[0])]


async def succeeds(words: list[str]) -> bool:
    assert shutil.which(words[0]) is not None, words[0]
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("status", "body", "healthy"),
    [
        (200, LOADED, True),
        (200, LOADED.replace("AVAILABLE", "LOADING"), False),
        (404, '{ "error": "Could not find any versions of model ctr" }', False),
    ],
)
async def test_the_model_server_is_healthy_with_an_available_version(
    services: dict[str, Compose], status: int, body: str, healthy: bool
) -> None:
    async with serving(status, body) as port:
        assert await succeeds(command(services["model-server"], "8501", str(port))) is healthy


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
async def test_the_scorer_is_healthy_when_ready(
    services: dict[str, Compose], monkeypatch: pytest.MonkeyPatch, status: int, healthy: bool
) -> None:
    """Docker's client sets proxy variables in every container if its own settings name a proxy."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with serving(status, "") as port:
        assert await succeeds(command(services["streamer"], "9100", str(port))) is healthy


def test_no_argument_of_a_check_has_a_space(services: dict[str, Compose]) -> None:
    """Podman's Docker API splits the arguments of CMD at each space: a check by `bash -c` would then always succeed."""
    checks = [service["healthcheck"]["test"] for service in services.values() if "healthcheck" in service]
    assert [test for test in checks if test[0] == "CMD" and any(" " in word for word in test)] == []


@pytest.mark.parametrize(("name", "port"), [("model-server", "8501"), ("streamer", "9100")])
async def test_a_service_that_does_not_listen_is_unhealthy(services: dict[str, Compose], name: str, port: str) -> None:
    assert not await succeeds(command(services[name], port, str(free_port())))


async def test_traffic_is_healthy_while_connected_to_the_broker(services: dict[str, Compose]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as broker:
        port = broker.getsockname()[1]
        words = command(services["traffic"], f"{9092:04X}", f"{port:04X}")
        assert not await succeeds(words)
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = broker.accept()
            with accepted:
                assert await succeeds(words)
