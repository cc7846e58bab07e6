"""The operations port over real HTTP, and `streamer model` as its client."""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter
from typer.testing import CliRunner

from streamer.commands import app
from streamer.errors import ConfigError, StreamerError
from streamer.ops.http_server import HttpServer
from streamer.ops.worker_handlers import WorkerHandlers
from streamer.settings import load_settings
from streamer.settings.deployment import OpsSettings
from tests.streamer.ops.controls import Control, Controls

WORD = "hunter2"


@asynccontextmanager
async def port_of(
    control: Control | None,
    other: Control | None = None,
    *,
    reason: str | None = None,
    token: str | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[str]:
    models = None if control is None else Controls(control, other or Control("other"))
    registry = CollectorRegistry()
    Counter("asked", "questions", registry=registry).inc(7)
    settings = OpsSettings.model_validate({"host": host, "port": 0, "token": token})
    server = HttpServer(settings, WorkerHandlers(registry, lambda: "RUNNING", lambda: reason, lambda: models).routes())
    await server.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        await server.stop()


async def ask(
    address: str,
    path: str,
    method: str = "GET",
    *,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    sent = {} if token is None else {"Authorization": f"Bearer {token}"}

    def go() -> tuple[int, str]:
        connection = http.client.HTTPConnection(address, timeout=60)
        try:
            connection.request(method, path, headers={**sent, **(headers or {})})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(go)


async def streamer(*arguments: str) -> Any:
    return await asyncio.to_thread(CliRunner().invoke, app, arguments)


async def test_health_readiness_and_metrics() -> None:
    async with port_of(None) as address:
        assert await ask(address, "/healthz") == (200, "RUNNING\n")
        assert await ask(address, "/readyz") == (200, "ready\n")
        status, body = await ask(address, "/metrics")
        assert status == 200
        assert "asked_total 7.0" in body


async def test_readiness_has_a_reason() -> None:
    async with port_of(None, reason="waiting for the brokers") as address:
        status, page = await ask(address, "/status")
        assert status == 200
        assert '<span class="state bad">RUNNING: waiting for the brokers</span>' in page
        assert await ask(address, "/readyz") == (503, "waiting for the brokers\n")
        assert (await ask(address, "/healthz"))[0] == 200


async def test_an_operator_selects_the_version() -> None:
    async with port_of(Control()) as address:
        assert json.loads((await ask(address, "/model"))[1])[0]["serving"] == 3
        assert json.loads((await ask(address, "/model/pin/2", "POST"))[1])[0]["pinned"] == 2
        assert await ask(address, "/model/pin/9", "POST") == (409, "NOT_FOUND: version 9 of 'ctr' is not AVAILABLE\n")
        assert json.loads((await ask(address, "/model/unpin", "POST"))[1])[0]["serving"] == 3
        for left in (2, 1):
            assert json.loads((await ask(address, "/model/rollback", "POST"))[1])[0]["serving"] == left
        assert (await ask(address, "/model/rollback", "POST"))[0] == 409


async def test_a_model_is_selected_by_name() -> None:
    control, other = Control(), Control("other")
    async with port_of(control, other) as address:
        assert (await ask(address, "/model/pin/2?model=other", "POST"))[0] == 200
        assert (control.serving, other.serving) == (3, 2)
        assert (await streamer("model", "pin", "1", "--model", "other", "--ops", address)).exit_code == 0
        assert (control.serving, other.serving) == (3, 1)
        shown = json.loads((await streamer("model", "list", "--json", "--ops", address)).stdout)
        assert [each["serving"] for each in shown["workers"][0]["models"]] == [3, 1]
        status, body = await ask(address, "/model/unpin?model=nobody", "POST")
        assert (status, body) == (404, "model 'nobody' is not served here; 'ctr', 'other'\n")


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/model/pin/2", "GET", 405),
        ("/model/rollback", "GET", 405),
        ("/model/pin/two", "POST", 404),
        ("/model/pin/-1", "POST", 404),
        ("/model/canary/2/1.5", "POST", 400),
        ("/model/canary/2/0.5.5", "POST", 400),
        ("/model/canary/new/1.5", "POST", 400),
        ("/model/canary/0.5", "POST", 404),
        ("/model/shadow/2/7", "POST", 400),
        ("/model/shadow/new/0.5", "POST", 404),
        ("/model/pin/2?model=nobody", "POST", 404),
        ("/", "GET", 404),
    ],
)
async def test_wrong_requests_change_nothing(path: str, method: str, status: int) -> None:
    control = Control()
    async with port_of(control) as address:
        assert (await ask(address, path, method))[0] == status
    assert control.serving == 3


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104  clients of this test are on loopback
async def test_without_the_token_only_the_probes_are_open(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    control = Control()
    async with port_of(control, token=WORD, host=host) as address:
        for probe in ("/healthz", "/readyz", "/metrics"):
            assert (await ask(address, probe))[0] == 200
        for token in (None, "hunter", "hunter22", "", "\xff"):
            for path, method in (
                ("/config", "GET"),
                ("/model", "GET"),
                ("/model/pin/1", "POST"),
                ("/nothing", "GET"),
            ):
                assert (await ask(address, path, method, token=token))[0] == 401
        assert control.serving == 3
        assert (await ask(address, "/config", token=WORD))[0] == 200
        assert isinstance((await streamer("model", "pin", "1", "--ops", address)).exception, StreamerError)
        monkeypatch.setenv("STREAMER_OPS__TOKEN", "hunter2")
        assert (await streamer("model", "pin", "1", "--ops", address)).exit_code == 0
        assert control.serving == 1


async def test_an_order_from_a_page_of_another_site_is_rejected() -> None:
    """A form needs no token of a port without one; a browser names the page's origin."""
    control = Control()
    for token in (None, WORD):
        async with port_of(control, token=token) as address:
            for origin in ("https://evil.example", "null", "http://127.0.0.1:1", f"http://{address}.evil.example", ""):
                status, text = await ask(
                    address,
                    "/model/rollback",
                    "POST",
                    token=token,
                    headers={"Origin": origin, "Content-Type": "text/plain"},
                )
                assert (status, text) == (403, f"Origin {origin!r}: orders from pages of other sites are rejected\n")
            assert control.serving == 3
            own = {"Origin": f"http://{address}"}
            assert (await ask(address, "/model/pin/3", "POST", token=token, headers=own))[0] == 200


@pytest.mark.parametrize("path", ["/model/rollback", "/config", "/status", "/nothing"])
async def test_a_foreign_name_that_leads_here_opens_only_the_probes(path: str) -> None:
    """DNS rebinding: the browser takes the other site's page for one of this port."""
    control = Control()
    async with port_of(control) as address:
        method = "POST" if path == "/model/rollback" else "GET"
        for host in ("evil.example", "evil.example:9100", "localhost.evil.example", "\xff"):
            headers = {"Host": host, "Origin": f"http://{host}"}
            status, text = await ask(address, path, method, headers=headers)
            assert (status, text.count("\n")) == (403, 1)
            assert "ops.token" in text
            assert (await ask(address, "/readyz", headers=headers))[0] == 200
        assert control.serving == 3
        for host in ("localhost", "LOCALHOST:9100", "[::1]:9100", "127.0.0.1"):
            assert (await ask(address, path, method, headers={"Host": host}))[0] != 403


async def test_a_port_beyond_loopback_takes_no_orders_without_a_token() -> None:
    control = Control()
    async with port_of(control, host="0.0.0.0") as address:  # noqa: S104
        status, text = await ask(address, "/model/rollback", "POST")
        assert (status, control.serving) == (403, 3)
        assert text == "ops.token: not set; orders need it because ops.host 0.0.0.0 is not a loopback address\n"
        for page in ("/healthz", "/readyz", "/metrics", "/status", "/config", "/model"):
            assert (await ask(address, page, headers={"Host": "streamer:9100"}))[0] == 200


@pytest.mark.parametrize("token", ["", " ", "a\n", "\ttoken", "schl\xfcssel", "a\x1bb"])
def test_a_token_that_no_header_can_hold_is_rejected(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("STREAMER_OPS__TOKEN", token)
    with pytest.raises(ConfigError) as error:
        load_settings(None)
    assert str(error.value) == "ops: token: empty, or not printable ASCII, or with a space or a line end around it"


async def test_the_token_never_goes_to_a_proxy_or_to_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server, port_of(Control(), token=WORD) as address:
        other = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, other)
        monkeypatch.setenv("STREAMER_OPS__TOKEN", WORD)
        shown = await streamer("model", "list", "--ops", address)
        assert shown.exit_code == 0, shown.exception

        async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 307 Elsewhere\r\nLocation: {other}/\r\nContent-Length: 0\r\n\r\n".encode())
            writer.close()

        async with await asyncio.start_server(redirect, "127.0.0.1", 0) as elsewhere:
            at = f"127.0.0.1:{elsewhere.sockets[0].getsockname()[1]}"
            assert isinstance((await streamer("model", "list", "--ops", at)).exception, StreamerError)
    assert heard == []


async def test_model_pages_before_a_model_is_prepared() -> None:
    async with port_of(None) as address:
        assert await ask(address, "/model") == (503, "no model yet\n")


async def test_the_command_line() -> None:
    control = Control()
    async with port_of(control) as address:
        shown = await streamer("model", "pin", "2", "--ops", address)
        assert shown.exit_code == 0, shown.output
        assert "serving: 2\npinned: 2\n" in shown.output
        assert "serving: 3" in (await streamer("model", "unpin", "--ops", address)).output
        assert "serving: 2" in (await streamer("model", "rollback", "--ops", address)).output
        assert "serving: 2" in (await streamer("model", "list", "--ops", address)).output
        assert (await streamer("model", "canary", "1", "0.25", "--ops", address)).exit_code == 0
        assert (control.serving, control.share) == (1, 0.25)
        shown = await streamer("model", "canary", "new ones", "0.1", "--ops", address)
        assert "canary: {'version': 'new ones', 'share': 0.1}\n" in shown.output
        assert (control.serving, control.asked, control.share) == (1, "new ones", 0.1)
        assert (await streamer("model", "shadow", "2", "0.5", "--ops", address)).exit_code == 0
        assert (control.serving, control.share) == (1, 0.5)
        rejected = await streamer("model", "pin", "9", "--ops", address)
        assert isinstance(rejected.exception, StreamerError)
        assert str(rejected.exception) == f"{address} rejected it: NOT_FOUND: version 9 of 'ctr' is not AVAILABLE"
    gone = await streamer("model", "list", "--ops", address)
    assert isinstance(gone.exception, StreamerError)
    assert str(gone.exception).startswith(f"no worker's operations port at {address}: ")


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-x\r\n",
        *(b"HTTP/1.1 200 OK\r\n\r\n" + body for body in (b"<html>", b'{"a": 1}', b"[1]", b"3", b"\xff")),
    ],
)
async def test_a_port_of_another_program_is_an_error_in_one_line(said: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        rejected = await streamer("model", "list", "--ops", address)
    assert isinstance(rejected.exception, StreamerError)
    assert str(rejected.exception).startswith(f"no worker's operations port at {address}: ")


async def test_settings_are_shown_verbatim(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "[bold]1,[/x]"
    monkeypatch.setenv("STREAMER_KAFKA__CLIENT_ID", name)
    shown = await streamer("check-config")
    assert shown.exit_code == 0, shown.exception
    assert name in shown.output
