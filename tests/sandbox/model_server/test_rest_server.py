"""The HTTP edge of the REST API: what reaches the API, and what goes out."""

import gzip
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPResponse

import pytest

from sandbox.host.ports import free_ports
from sandbox.model_server.rest_server import Answer, RestServer


def _echo(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
    encoding = headers.get("Content-Encoding", "")
    return Answer(400 if path == "/wrong" else 200, f"{method} {path} {encoding} ".encode() + body, {"X-A": "b"})


@pytest.fixture(scope="module")
def connection() -> Iterator[HTTPConnection]:
    (port,) = free_ports(1)
    server = RestServer(_echo, port, 2)
    server.start()
    client = HTTPConnection("127.0.0.1", port, timeout=10)
    yield client
    client.close()
    server.close()


def _call(connection: HTTPConnection, *request: object, headers: Mapping[str, str] | None = None) -> HTTPResponse:
    method, path, body = (*request, None)[:3]
    connection.request(str(method), str(path), body, headers or {})  # type: ignore[arg-type]
    return connection.getresponse()


def test_path_and_body_arrive_as_they_were_sent(connection: HTTPConnection) -> None:
    body = gzip.compress(b"text")
    answer = _call(connection, "POST", "//v1/a%3Ab?x=1", body, headers={"Content-Encoding": "gzip"})
    assert answer.read() == b"POST //v1/a%3Ab?x=1 gzip " + body
    for encoding in ("br", "deflate"):
        answer = _call(connection, "POST", "/", b"plain", headers={"Content-Encoding": encoding})
        assert answer.read() == f"POST / {encoding} plain".encode()


def test_status_and_headers_are_the_answers_own(connection: HTTPConnection) -> None:
    answer = _call(connection, "GET", "/wrong")
    answer.read()
    assert answer.status == 400
    assert {name: value for name, value in answer.getheaders() if name not in {"Date", "Content-Length"}} == {
        "X-A": "b",
        "Content-Type": "application/octet-stream",
    }


def test_every_method_arrives_and_head_has_no_body(connection: HTTPConnection) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert _call(connection, method, "/x").read() == f"{method} /x  ".encode()
    assert _call(connection, "HEAD", "/x").read() == b""


def test_a_client_may_wait_for_100_continue(connection: HTTPConnection) -> None:
    assert _call(connection, "POST", "/", b"body", headers={"Expect": "100-continue"}).read() == b"POST /  body"


def test_a_port_in_use_is_an_error(connection: HTTPConnection) -> None:
    with pytest.raises(OSError, match="in use"):
        RestServer(_echo, connection.port, 1).start()
    with pytest.raises(OSError, match="70000 is no port"):
        RestServer(_echo, 70_000, 1).start()
