"""Calls over HTTP to servers that answer something else than TensorFlow Serving does, or nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
import pytest

from streamer.errors import PredictError
from streamer.metrics import Metrics
from streamer.serving import rest_channel
from streamer.serving.channel import Connector
from streamer.serving.predictor import Predictor
from streamer.serving.protos import get_model_status_pb2
from streamer.settings.sections import PredictorSettings
from streamer.types import BatchInputs, ModelVersion
from tests.streamer.scoring.encoded import encoded

V = ModelVersion("ctr", 3)
LONG = 60.0
STATUS = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "ctr"})


@asynccontextmanager
async def answering(answer: bytes, requests: list[bytes] | None = None, *, ends: bool = True) -> AsyncIterator[str]:
    """A server that answers every connection with these bytes, as HTTP or not; yields its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if requests is not None:
                    requests.append(head)
                await reader.readexactly(length(head))
                writer.write(answer)
                await writer.drain()
                if ends:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def length(head: bytes) -> int:
    found = [line for line in head.lower().splitlines() if line.startswith(b"content-length:")]
    return int(found[0].split(b":")[1]) if found else 0


def http(body: bytes, status: bytes = b"200 OK", said_length: int | None = None) -> bytes:
    size = str(len(body) if said_length is None else said_length).encode()
    return b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\nContent-Length: " + size + b"\r\n\r\n" + body


async def error_of(address: str, seconds: float = LONG) -> PredictError:
    channel = Connector(PredictorSettings(protocol="rest")).channel(address)
    try:
        with pytest.raises(PredictError) as caught:
            await channel.call("GetModelStatus", STATUS, seconds)
    finally:
        await channel.close()
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500
    return caught.value


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "UNAVAILABLE: Server disconnected"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "UNAVAILABLE: not HTTP"),
        (http(b'{"model_version_status": []}', said_length=100), "UNAVAILABLE: Response payload is not completed"),
        (http(b"<HTML>", b"404 Not Found"), "UNIMPLEMENTED: HTTP 404 without TensorFlow Serving's error text"),
        (http(b"", b"302 Found"), "UNKNOWN: HTTP 302 without"),
        (http(b"hello"), "INVALID_REPLY: the reply to GetModelStatus cannot be decoded: "),
        (http(b'{"error": "Could not find any versions of model ctr"}', b"404 Not Found"), "NOT_FOUND: Could not"),
        (http(b"", said_length=2**40) + b" " * (2**24 + 1), "MESSAGE_TOO_LARGE: the reply has more than 16777216"),
    ],
)
async def test_each_answer_is_one_declared_error(answer: bytes, message: str) -> None:
    async with answering(answer) as address:
        assert str(await error_of(address)).startswith(message)


async def test_nobody_at_the_address_is_unavailable() -> None:
    async with answering(b"") as address:
        pass
    assert (await error_of(address)).code == "UNAVAILABLE"


async def test_a_grpc_port_is_named_in_one_line() -> None:
    server = grpc.aio.server()
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    assert str(await error_of(address)) == (
        f"UNAVAILABLE: {address} speaks HTTP/2, as gRPC ports do, and not HTTP/1.1; name the REST port (default 8501)"
        " or set predictor.protocol: grpc"
    )
    await server.stop(0)


async def test_a_late_call_ends_at_its_deadline_and_its_connection_with_it() -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        closed.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        channel = Connector(PredictorSettings(protocol="rest")).channel(
            f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        )
        with pytest.raises(PredictError, match="DEADLINE_EXCEEDED: no reply within 50 ms"):
            await channel.call("GetModelStatus", STATUS, 0.05)
        async with asyncio.timeout(LONG):
            await closed.wait()
        await channel.close()
        with pytest.raises(PredictError, match="CLOSED"):
            await channel.call("GetModelStatus", STATUS, LONG)


async def test_a_connection_serves_many_calls_and_asks_for_no_compression() -> None:
    requests: list[bytes] = []
    body = b'{"model_version_status": [{"version": "3", "state": "AVAILABLE"}]}'
    async with answering(http(body), requests, ends=False) as address:
        channel = Connector(PredictorSettings(protocol="rest")).channel(address, ("models.example", 8501))
        for _ in range(3):
            reply = await channel.call("GetModelStatus", STATUS, LONG)
            assert reply.model_version_status[0].version == 3
        await channel.close()
    assert len(requests) == 3
    assert requests[0].startswith(b"GET /v1/models/ctr HTTP/1.1\r\n")
    assert b"\r\nHost: models.example:8501\r\n" in requests[0]
    assert b"\r\nAccept-Encoding: identity\r\n" in requests[0]


async def test_calls_in_flight_have_the_grace_of_a_close() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await answer.wait()
        writer.write(http(b'{"model_version_status": []}'))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, asyncio.timeout(LONG):
        channel = Connector(PredictorSettings(protocol="rest")).channel(
            f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        )
        call = asyncio.create_task(channel.call("GetModelStatus", STATUS, LONG))
        await asked.wait()
        closing = asyncio.create_task(channel.close(LONG))
        answer.set()
        assert list((await call).model_version_status) == []
        await closing


async def test_a_body_of_megabytes_arrives_whole() -> None:
    rows = 20_000
    scores = b"[" + b",".join([b"0.25"] * rows) + b"]"
    async with answering(http(b'{"outputs": ' + scores + b"}")) as address:
        predictor = Predictor(PredictorSettings(protocol="rest", addresses=(address,)), Metrics())
        ctr = await predictor.score(V, BatchInputs.whole(encoded(1, rows)), LONG)
        await predictor.close()
    assert ctr.tolist() == [0.25] * rows


@pytest.mark.parametrize(
    ("address", "path"),
    [("[::1]:8501", "http://[::1]:8501"), ("dns:///models:8501", "http://models:8501"), ("a:1", "http://a:1")],
)
async def test_an_address_leads_to_a_url(address: str, path: str) -> None:
    channel = Connector(PredictorSettings(protocol="rest")).channel(address)
    assert isinstance(channel, rest_channel.RestChannel)
    assert channel.base_url == path
    await channel.close()
