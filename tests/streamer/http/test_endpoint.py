"""The endpoint alone: bounds, headers, statuses, clients that leave, drains. Its stages are fakes."""

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import aiohttp
import orjson
import pytest
import structlog
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from streamer.deadline import Deadline
from streamer.errors import ConfigError
from streamer.http.endpoint import Endpoint, tls_context
from streamer.http.exchange import Exchange
from streamer.http.replies import reply_to
from streamer.metrics import Metrics
from streamer.types import Cause, DeadLetter, DeadLetterStage, Origin, Record, ScoreMessage, Status
from tests.streamer.http.serving import Stages, serving, settings_of, turns_until

ORIGIN = Origin("/v1/score", 0, 0)
LOG = structlog.get_logger()


@pytest.fixture
def stages() -> Stages:
    """Stages that answer at once."""
    found = Stages()
    found.answers.set()
    return found


async def test_a_request_is_a_record(stages: Stages) -> None:
    async with serving(stages.process) as client:
        status, body, headers = await client.post(b'{"a": 1}', X_Request_Id="r1", X_Deadline_Ms="25", X_Key="u\xfc")
        assert (status, body) == (200, b"the answer")
        assert headers["Content-Type"] == "application/json"
        await client.post(b"", X_Other="1")
    first, second = stages.records
    assert (first.value, first.key, first.origin) == (b'{"a": 1}', "uü".encode(), ORIGIN)
    assert first.headers == (("request_id", b"r1"), ("deadline_ms", b"25"))
    assert (second.value, second.key, second.headers) == (b"", None, ())
    assert second.origin == Origin("/v1/score", 0, 1)
    assert first.deadline.at - first.deadline.start == pytest.approx(0.03)
    assert first.deadline.start <= first.at
    assert client.counted(200) == 2
    assert client.metrics.registry.get_sample_value("streamer_http_seconds_count") == 2


async def test_the_last_parent_and_all_states_of_a_trace_are_taken(stages: Stages) -> None:
    headers = [("traceparent", "a"), ("tracestate", "x=1"), ("traceparent", "b"), ("tracestate", "y=2")]
    async with serving(stages.process, settings_of(tracing={"enabled": True})) as client:
        await client.session.post("/v1/score", data=b"{}", headers=headers)
    assert stages.records[0].headers == (("traceparent", b"b"), ("tracestate", b"x=1,y=2"))


@pytest.mark.parametrize(
    ("status", "cause", "code"),
    [
        ("ok", None, 200),
        ("partial", None, 200),
        ("fallback", None, 200),
        ("fallback", "overload", 503),
        ("expired", "overload", 503),
        ("expired", None, 504),
        ("invalid", None, 400),
        ("invalid", "defect", 500),
    ],
)
async def test_the_code_says_how_a_request_ended(
    stages: Stages, status: Status, cause: Cause | None, code: int
) -> None:
    stages.message = ScoreMessage("r", status, ORIGIN, cause=cause)
    async with serving(stages.process) as client:
        found, body, headers = await client.post()
        assert (found, body) == (code, b"the answer")
        assert headers.get("Retry-After") == ("1" if code == 503 else None)
        assert client.counted(code) == 1


@pytest.mark.parametrize(("stage", "code"), [("decode", 400), ("encode", 400), ("pipeline", 500)])
def test_what_a_topic_would_dead_letter_has_a_reason(stage: DeadLetterStage, code: int) -> None:
    reply = reply_to(DeadLetter(None, b"x", (), ORIGIN, -1, stage, "user: wrong"), None)
    assert (reply.status, orjson.loads(reply.body)) == (code, {"reason": "user: wrong"})


async def test_more_requests_than_allowed_are_rejected_at_once() -> None:
    stages = Stages()
    async with serving(stages.process, settings_of(source={"max_unacknowledged_records": 1})) as client:
        first = asyncio.create_task(client.post())
        await stages.arrived.wait()
        status, body, headers = await client.post()
        assert (status, headers["Retry-After"]) == (503, "1")
        assert orjson.loads(body) == {"reason": "1 requests are in flight (source.max_unacknowledged_records)"}
        stages.answers.set()
        assert (await first)[0] == 200
        assert (await client.post())[0] == 200
    assert len(stages.records) == 2


async def test_the_bodies_in_memory_are_bounded_together() -> None:
    stages = Stages()
    async with serving(stages.process, settings_of(source={"max_unacknowledged_bytes": 150})) as client:
        first = asyncio.create_task(client.post(b"x" * 100))
        await stages.arrived.wait()
        assert (await client.post(b"x" * 100))[0] == 503
        # What counts is the size in memory.
        assert (await client.post(gzip.compress(b" " * 100), Content_Encoding="gzip"))[0] == 503
        stages.answers.set()
        assert (await first)[0] == 200
        assert (await client.post(b"x" * 100))[0] == 200


async def in_parts(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_body_above_the_limit_is_rejected(stages: Stages) -> None:
    async with serving(stages.process, settings_of(codec={"max_record_bytes": 1024})) as client:
        assert (await client.post(b"x" * 1024))[0] == 200
        status, body, _ = await client.post(b"x" * 1025)
        assert status == 413
        assert orjson.loads(body)["reason"] == "record: 1025 bytes, more than codec.max_record_bytes = 1024"
        status, body, _ = await client.post(in_parts(b"x" * 1000, b"x" * 25))
        assert status == 413
        assert orjson.loads(body)["reason"] == "record: more than codec.max_record_bytes = 1024"
        assert (await client.post(gzip.compress(b" " * 1_000_000), Content_Encoding="gzip"))[0] == 413
    assert len(stages.records) == 1


async def test_gzip_is_decompressed_and_nothing_else(stages: Stages) -> None:
    async with serving(stages.process) as client:
        assert (await client.post(gzip.compress(b'{"a": 1}'), Content_Encoding="GZIP"))[0] == 200
        status, body, _ = await client.post(gzip.compress(b'{"a": 1}')[:-2], Content_Encoding="gzip")
        assert (status, orjson.loads(body)["reason"]) == (400, "record: gzip without an end")
        status, body, _ = await client.post(b"x", Content_Encoding="br")
        assert (status, orjson.loads(body)["reason"]) == (415, "Content-Encoding 'br': only gzip is accepted")
    (record,) = stages.records
    assert record.value == b'{"a": 1}'


async def test_a_body_that_does_not_come_ends_at_the_deadline(stages: Stages) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with serving(stages.process, settings_of(source={"max_unacknowledged_records": 1})) as client:
        status, body, _ = await client.post(slow(), X_Deadline_Ms="20")
        assert status == 408
        assert orjson.loads(body)["reason"] == "record: its body was not complete by the deadline"
        assert (await client.post())[0] == 200, "its place is free"
    assert len(stages.records) == 1


async def test_the_work_for_a_client_that_leaves_ends() -> None:
    stages = Stages()
    async with serving(stages.process) as client:
        request = asyncio.create_task(client.post())
        await stages.arrived.wait()
        request.cancel()
        await client.metrics.ended.wait()
        assert client.counted(499) == 1
        assert stages.cancelled == 1
        assert client.metrics.registry.get_sample_value("streamer_http_in_flight_requests") == 0


async def test_a_client_that_leaves_in_the_middle_of_a_body(stages: Stages) -> None:
    async with serving(stages.process) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.endpoint.port)
        head = b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
        writer.write(head)
        assert (await reader.readline()).startswith(b"HTTP/1.1 100 ")
        writer.write(b"{")
        writer.close()
        await client.metrics.ended.wait()
        assert client.counted(499) == 1
    assert stages.records == []


@pytest.mark.parametrize(
    "head", [b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"Content-Length: x\r\n\r\n", b"Content-Length: 9" * 9999]
)
async def test_what_is_no_http_gets_400(stages: Stages, head: bytes) -> None:
    async with serving(stages.process) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.endpoint.port)
        writer.write(b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\n" + head)
        assert b" 400 " in await reader.readline()
        writer.close()
    assert stages.records == []


async def test_a_connection_above_the_bound_is_closed_at_once(stages: Stages) -> None:
    one = b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    async with serving(stages.process, settings_of(http={"max_connections": 1})) as client:
        port = client.endpoint.port
        reader, idle = await asyncio.open_connection("127.0.0.1", port)
        idle.write(one)
        assert b" 200 " in await reader.readline()
        refused, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await refused.read() == b""
        writer.close()
        idle.close()
        open_connections = partial(client.metrics.registry.get_sample_value, "streamer_http_open_connections")
        await turns_until(lambda: open_connections() == 0)
        assert (await client.post())[0] == 200, "its place is free"


async def test_a_head_that_does_not_come_ends_its_connection(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.http.endpoint._IDLE_S", 0.01)
    async with serving(stages.process) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.endpoint.port)
        writer.write(b"POST /v1/score HTTP/1.1\r\nHost: local")
        assert await reader.read() == b""
        writer.close()


async def test_another_path_and_another_method(stages: Stages) -> None:
    async with serving(stages.process) as client:
        status, body, _ = await client.post(path="/v1/scores")
        assert (status, orjson.loads(body)) == (404, {"reason": "Not Found"})
        async with client.session.get("/v1/score") as reply:
            assert (reply.status, reply.headers["Allow"]) == (405, "POST")
            assert await reply.json() == {"reason": "Method Not Allowed"}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 401),
        ({"Authorization": "Bearer other"}, 401),
        ({"Authorization": "Bearer secret"}, 200),
        ({"Authorization": "Bearer secret", "Origin": "http://evil.example"}, 403),
    ],
)
async def test_every_request_needs_the_token(stages: Stages, headers: dict[str, str], code: int) -> None:
    async with serving(stages.process, settings_of(http={"token": "secret"})) as client:
        assert (await client.post(**headers))[0] == code
    assert len(stages.records) == (code == 200)


@pytest.mark.parametrize(("host", "code"), [("evil.example", 403), ("localhost:1", 200), ("[::1]", 200)])
async def test_a_foreign_name_of_loopback_is_rejected(stages: Stages, host: str, code: int) -> None:
    async with serving(stages.process) as client:
        assert (await client.post(Host=host))[0] == code


async def test_tls(stages: Stages, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    files = {"tls_cert_file": str(tmp_path / "cert.pem"), "tls_key_file": str(tmp_path / "key.pem")}
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    async with serving(stages.process, settings_of(http=dict(files)), scheme="https") as client:
        async with client.session.post("/v1/score", data=b"{}", ssl=trusted) as reply:
            assert reply.status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await client.post()
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(ConfigError, match=r"^http.tls_cert_file, http.tls_key_file: cannot be used: "):
        await Endpoint(settings_of(http=dict(files)), stages.process, Metrics(), LOG, lambda: 0.0).start()


def test_an_encrypted_key_is_an_error_and_no_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL asks for the password of a key on the terminal, and would wait for an answer without a limit."""
    key = ec.generate_private_key(ec.SECP256R1())
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    (tmp_path / "key.pem").write_bytes(encrypted)
    trustme.CA().issue_cert("127.0.0.1").cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    asked: list[object] = []
    load = ssl.SSLContext.load_cert_chain

    def watched(context: ssl.SSLContext, cert: Path, key: Path, password: str | None = None) -> None:
        asked.append(password is None)
        load(context, cert, key, "" if password is None else password)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watched)
    files = {"tls_cert_file": str(tmp_path / "cert.pem"), "tls_key_file": str(tmp_path / "key.pem")}
    with pytest.raises(ConfigError, match=r"^http.tls_cert_file, http.tls_key_file: cannot be used: "):
        tls_context(settings_of(http=dict(files)).http)
    assert asked == [False]


async def test_a_port_in_use_is_one_line(stages: Stages) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        endpoint = Endpoint(settings_of(http={"port": port}), stages.process, Metrics(), LOG, lambda: 0.0)
        with pytest.raises(ConfigError, match=rf"^http: cannot listen on 127.0.0.1:{port}: .*address already in use$"):
            await endpoint.start()
        await endpoint.stop()


async def test_a_drain_answers_what_it_has_and_accepts_no_more() -> None:
    stages = Stages()
    async with serving(stages.process) as client:
        endpoint, now = client.endpoint, asyncio.get_running_loop().time
        first = asyncio.create_task(client.post())
        await stages.arrived.wait()
        await endpoint.close()
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.post()
        assert not await endpoint.join(Deadline.after(now(), 1.0)), "it is not answered yet"
        stages.answers.set()
        assert await endpoint.join(Deadline.after(now(), 10_000.0))
        stopping = asyncio.create_task(endpoint.stop())
        assert (await first)[:2] == (200, b"the answer")
        await stopping


async def test_a_request_on_an_open_connection_gets_503_before_and_after() -> None:
    """For example the second of two requests that a client sends at once."""
    stages = Stages()
    endpoint = Endpoint(settings_of(), stages.process, Metrics(), LOG, asyncio.get_running_loop().time)
    await endpoint.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{endpoint.port}") as session:
        async with session.post("/v1/score", data=b"{}") as reply:
            assert (reply.status, await reply.json()) == (503, {"reason": "starting"})
        endpoint.open()
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
        one = b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
        writer.write(one + one)
        await stages.arrived.wait()
        await endpoint.close()
        stages.answers.set()
        answered = await reader.read()
        assert answered.startswith(b"HTTP/1.1 200 ")
        assert answered.count(b"HTTP/1.1 ") == 1 or b"draining" in answered
        writer.close()
    await endpoint.stop()
    assert len(stages.records) == 1


async def test_a_drain_that_ends_too_early_cancels_the_rest() -> None:
    stages = Stages()
    async with serving(stages.process) as client:
        first = asyncio.create_task(client.post())
        await stages.arrived.wait()
        await client.endpoint.close()
        await client.endpoint.stop()
        with pytest.raises(aiohttp.ClientConnectionError):
            await first
    assert stages.cancelled == 1


async def test_a_defect_of_the_stages_is_500_for_its_request_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def process(record: Record, exchange: Exchange) -> ScoreMessage:
        raise KeyError(record.key)

    async with serving(process) as client:
        assert (await client.post())[0] == 500
        assert client.counted(500) == 1
        assert client.metrics.registry.get_sample_value("streamer_http_in_flight_requests") == 0
    assert "KeyError" in caplog.text
