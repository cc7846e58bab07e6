"""Proxy variables: gRPC itself and `proxy_variable` agree, and this machine's own servers never get a proxy."""

import asyncio
from collections.abc import Mapping

import pytest

from streamer.errors import PredictError
from streamer.serving.channel import Connector
from streamer.serving.protos import get_model_status_pb2
from streamer.serving.proxies import is_local, proxy_variable
from streamer.settings.sections import PredictorSettings

NAMES = ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy")
ELSEWHERE = "models.invalid:8500"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:8500", "127.9.9.9:1", "localhost:8500", "LOCALHOST:8500", "[::1]:8500", "dns:///localhost:8500",
        "dns:localhost:8500", "dns://8.8.8.8/localhost:8500", "ipv4:127.0.0.1:1,127.0.0.2:2", "ipv6:[::1]:8500",
        "ipv6:%5B::1%5D:8500", "unix:/run/models.sock", "unix-abstract:models", "localhost",
    ],
)  # fmt: skip
def test_these_addresses_are_on_this_machine(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize(
    "address",
    ["models:8500", "10.0.0.1:8500", "localhost.example:1", "dns:///models:8500", "ipv4:127.0.0.1:1,10.0.0.1:1", "::2"],
)
def test_these_addresses_are_elsewhere(address: str) -> None:
    assert not is_local(address)


@pytest.mark.parametrize(
    ("address", "variables", "used"),
    [
        (ELSEWHERE, {}, None),
        (ELSEWHERE, {"http_proxy": "PROXY"}, "http_proxy"),
        (ELSEWHERE, {"http_proxy": "http://127.0.0.1:9", "https_proxy": "PROXY"}, "https_proxy"),
        (ELSEWHERE, {"https_proxy": "http://127.0.0.1:9", "grpc_proxy": "PROXY"}, "grpc_proxy"),
        (ELSEWHERE, {"grpc_proxy": "", "http_proxy": "PROXY"}, None),
        (ELSEWHERE, {"http_proxy": "PROXY", "no_proxy": "example, .invalid"}, None),
        (ELSEWHERE, {"http_proxy": "PROXY", "no_proxy": "models.invalid", "no_grpc_proxy": "other"}, "http_proxy"),
        (ELSEWHERE, {"http_proxy": "PROXY", "no_proxy": "*"}, "http_proxy"),
        ("127.0.0.1:1", {"http_proxy": "PROXY"}, None),
        ("localhost:1", {"grpc_proxy": "PROXY", "no_proxy": ""}, None),
        ("[::1]:1", {"https_proxy": "PROXY"}, None),
    ],
)
async def test_grpc_uses_the_variable_that_is_named(
    monkeypatch: pytest.MonkeyPatch, address: str, variables: Mapping[str, str], used: str | None
) -> None:
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode())
        writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as proxy:
        url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        environment = {name: text.replace("PROXY", url) for name, text in variables.items()}
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, text in environment.items():
            monkeypatch.setenv(name, text)
        channel = Connector(PredictorSettings()).channel(address)
        with pytest.raises(PredictError):
            await channel.call("GetModelStatus", get_model_status_pb2.GetModelStatusRequest(), 30)
        await channel.close()
    assert proxy_variable(address, environment) == used
    assert [line.split()[:2] for line in asked[:1]] == ([] if used is None else [["CONNECT", address]])


def test_a_network_exempts_its_addresses() -> None:
    variables = {"http_proxy": "http://proxy:3128", "no_proxy": "10.0.0.0/8,localhost"}
    assert proxy_variable("10.1.2.3:8500", variables) is None
    assert proxy_variable("11.1.2.3:8500", variables) == "http_proxy"
