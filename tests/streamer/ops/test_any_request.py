"""Any request to the operations port of a worker or a supervisor: an answer, or one line with a status of 4xx."""

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from streamer.ops.http_server import HttpServer
from streamer.ops.supervisor_handlers import SupervisorHandlers
from streamer.ops.worker_client import WorkerClient, WorkerView
from streamer.ops.worker_handlers import WorkerHandlers
from streamer.settings.deployment import OpsSettings
from tests.streamer.ops.controls import Control, Controls

WAIT_S = 30.0


class Forgets:
    """Keeps no orders."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()

    def executed(self, *_: object) -> None:
        """Nothing to keep."""


async def serve(folder: Path, started: "Future[tuple[int, int]]", stop: asyncio.Event) -> None:
    worker = WorkerHandlers(
        CollectorRegistry(), lambda: "RUNNING", lambda: None, lambda: Controls(Control(), Control("other"))
    )
    path = folder / "worker.sock"
    client = WorkerClient(lambda: [WorkerView(0, 1, "active")], lambda _: path)
    supervisor = SupervisorHandlers(client, lambda: None, CollectorRegistry(), Forgets())
    inner = HttpServer(OpsSettings(socket=path), worker.routes())
    alone = HttpServer(OpsSettings(port=0), worker.routes())
    outer = HttpServer(OpsSettings(port=0), supervisor.routes())
    for server in (inner, alone, outer):
        await server.start()
    started.set_result((alone.port, outer.port))
    await stop.wait()
    for server in (outer, alone, inner):
        await server.stop()


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The ports of a worker that works alone, and of a supervisor with one worker."""
    started: Future[tuple[int, int]] = Future()
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()
    task = serve(tmp_path_factory.mktemp("ops"), started, stop)
    thread = threading.Thread(target=loop.run_until_complete, args=(task,))
    thread.start()
    try:
        yield started.result(WAIT_S)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(WAIT_S)
        loop.close()


def ask(port: int, request: bytes, *, well_formed: bool) -> tuple[int, bytes]:
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        connection.sendall(request)
        if not well_formed:  # else it waits for the rest of a request
            connection.shutdown(socket.SHUT_WR)
        response = HTTPResponse(connection, method="HEAD" if request.startswith(b"HEAD ") else "GET")
        response.begin()
        return response.status, response.read()


odd = st.text(st.characters(exclude_characters=" \r\n"), max_size=8)
safe = odd.map(lambda text: quote(text.encode(errors="surrogatepass")))
methods = st.sampled_from(["GET", "GET", "POST", "POST", "HEAD", "OPTIONS", "DELETE", "PUT", "TRACE", "X-Y"])
pages = st.sampled_from(["/healthz", "/readyz", "/metrics", "/status", "/config", "/model", "/workers", "/model/unpin"])
number = st.one_of(st.sampled_from(["0.5", "1", "0", "nan", "1e9", "9" * 18, ".", quote("٣")]), safe)
orders = st.tuples(st.sampled_from(["pin", "canary", "shadow"]), number, number).map("/".join)
queries = st.sampled_from(["", "?", "?model=ctr", "?model=%ff", "?model=%00", "?model=%0a", "?model=%1b"])
paths = st.tuples(st.one_of(pages, orders.map("/model/{}".format), safe.map("/{}".format)), queries).map("".join)
names = st.sampled_from(["Host", "Origin", "Authorization", "Range", "Accept", "Connection", "X-Forwarded-Host"])
texts = st.one_of(st.sampled_from(["localhost", "[", "evil.example", "null", "http://x", "close", "bytes=9-1"]), safe)
broken = st.tuples(st.one_of(st.sampled_from(["Content-Length", "Transfer-Encoding", "Expect", "Upgrade"]), odd), odd)


@st.composite
def requests(draw: st.DrawFn, *, well_formed: bool) -> bytes:
    """A request with at most one body; if not well formed, with one odd header, method or path."""
    body = draw(st.binary(max_size=2000))
    fields = [
        ("Host", draw(st.sampled_from(["localhost", "127.0.0.1:1", "[::1]"]))),
        ("Content-Length", str(len(body))),
    ]
    fields += draw(st.lists(st.tuples(names, texts), max_size=3))
    method, path = draw(methods), draw(paths)
    if not well_formed:
        fields = [*fields[draw(st.integers(0, 2)) :], draw(broken)]
        method, path = draw(st.tuples(st.one_of(st.just(method), odd), st.one_of(st.just(path), odd.map("/{}".format))))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in fields), "", ""]
    return "\r\n".join(lines).encode(errors="surrogatepass") + body


@pytest.mark.parametrize("well_formed", [True, False])
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_request_ends_in_an_error_of_the_server(
    ports: tuple[int, int], caplog: pytest.LogCaptureFixture, data: st.DataObject, well_formed: bool
) -> None:
    request_ = data.draw(requests(well_formed=well_formed))
    caplog.clear()
    for port in ports:
        try:
            status, text = ask(port, request_, well_formed=well_formed)
        except (HTTPException, ConnectionResetError):
            assert not well_formed
            continue  # closed without an answer, as after an incomplete request
        assert 200 <= status < 500, (status, text)
        # A request that is no HTTP is quoted by aiohttp.
        assert status <= 400 or text.strip().count(b"\n") == 0, (status, text)
    assert [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR] == []
