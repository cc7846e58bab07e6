"""TLS and mutual TLS with real gRPC and REST servers, and the errors if certificates do not match."""

import asyncio
import datetime as dt
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from streamer.errors import ConfigError, PredictError
from streamer.metrics import Metrics
from streamer.serving.predictor import Predictor
from streamer.settings.sections import PredictorSettings
from streamer.types import BatchInputs, ModelVersion
from tests.streamer.scoring.encoded import encoded
from tests.streamer.serving.model_servers import Server

LONG = 60.0
Files = dict[str, Path]


def _files(certificate: trustme.LeafCert, folder: Path, name: str) -> Files:
    key, chain = folder / f"{name}.key", folder / f"{name}.pem"
    certificate.private_key_pem.write_to_path(key)
    for n, pem in enumerate(certificate.cert_chain_pems):
        pem.write_to_path(chain, append=n > 0)
    return {"tls_key_file": key, "tls_cert_file": chain}


@pytest.fixture(params=["grpc", "rest"], autouse=True)
def protocol(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of TLS mean the same with both protocols."""
    monkeypatch.setattr(Server, "protocol", request.param)


def settings_of(address: str, **settings: Any) -> PredictorSettings:
    return PredictorSettings(protocol=Server.protocol, addresses=(address,), **settings)


class Authority:
    """A certificate authority, a server certificate, and the files of an accepted client."""

    def __init__(self, folder: Path, *, server_name: str = "127.0.0.1", client_required: bool = False) -> None:
        authority, foreign = trustme.CA(), trustme.CA()
        self.ca, self.foreign_ca = folder / "ca.pem", folder / "foreign.pem"
        authority.cert_pem.write_to_path(self.ca)
        foreign.cert_pem.write_to_path(self.foreign_ca)
        self.client = _files(authority.issue_cert("scorer.example"), folder, "client")
        self.foreign_client = _files(foreign.issue_cert("scorer.example"), folder, "foreign_client")
        yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
        earlier = yesterday - dt.timedelta(days=9)

        def credentials(certificate: trustme.LeafCert) -> grpc.ServerCredentials | ssl.SSLContext:
            if Server.protocol == "rest":
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                certificate.configure_cert(context)
                authority.configure_trust(context)
                context.verify_mode = ssl.CERT_REQUIRED if client_required else ssl.CERT_NONE
                return context
            pair = certificate.private_key_pem.bytes(), b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
            return grpc.ssl_server_credentials(
                [pair], authority.cert_pem.bytes() if client_required else None, require_client_auth=client_required
            )

        self.credentials = credentials(authority.issue_cert(server_name))
        self.expired = credentials(authority.issue_cert(server_name, not_before=earlier, not_after=yesterday))


async def score_of(authority: Authority, **settings: Any) -> list[float]:
    """The scores that a server with TLS returns to a client with these settings."""
    async with Server(credentials=authority.credentials).running() as server:
        predictor = Predictor(settings_of(server.address, **settings), Metrics())
        try:
            ctr = await predictor.score(ModelVersion("ctr", 3), BatchInputs.whole(encoded(1, 2)), LONG)
        finally:
            await predictor.close()
    found: list[float] = ctr.tolist()
    return found


RIGHT = pytest.approx([0.01, 0.010001])


async def test_a_server_certified_by_our_authority_is_called(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    assert await score_of(authority, tls=True, tls_ca_file=authority.ca) == RIGHT


async def test_a_client_sends_its_certificate_if_the_server_requires_one(tmp_path: Path) -> None:
    authority = Authority(tmp_path, client_required=True)
    assert await score_of(authority, tls=True, tls_ca_file=authority.ca, **authority.client) == RIGHT


async def test_the_server_name_may_differ_from_the_address(tmp_path: Path) -> None:
    authority = Authority(tmp_path, server_name="models.example")
    named = {"tls": True, "tls_ca_file": authority.ca, "tls_server_name": "models.example"}
    assert await score_of(authority, **named) == RIGHT
    with pytest.raises(PredictError, match=r"^UNAVAILABLE: .*(?i:certificate|handshake|verif|peer)"):
        await score_of(authority, tls=True, tls_ca_file=authority.ca)


@pytest.mark.parametrize(
    "client", ["without TLS", "with a foreign authority", "without a certificate", "a foreign certificate"]
)
async def test_a_client_that_does_not_match_is_rejected(tmp_path: Path, client: str) -> None:
    authority = Authority(tmp_path, client_required=True)
    settings: dict[str, Any] = {
        "without TLS": {},
        "with a foreign authority": {"tls": True, "tls_ca_file": authority.foreign_ca, **authority.client},
        "without a certificate": {"tls": True, "tls_ca_file": authority.ca},
        "a foreign certificate": {"tls": True, "tls_ca_file": authority.ca, **authority.foreign_client},
    }[client]
    with pytest.raises(PredictError, match=r"^UNAVAILABLE: ") as caught:
        await score_of(authority, **settings)
    assert len(str(caught.value).splitlines()) == 1


async def test_an_expired_certificate_is_named_and_a_new_one_needs_no_restart(tmp_path: Path) -> None:
    authority, server = Authority(tmp_path), Server()
    settings = settings_of("", tls=True, tls_ca_file=authority.ca, circuit_open_ms=1)

    async def scored() -> list[float]:
        ctr = await predictor.score(ModelVersion("ctr", 3), BatchInputs.whole(encoded(1, 2)), LONG)
        return list(ctr.tolist())

    async def scored_at_last() -> list[float]:
        while True:
            with suppress(PredictError):
                return await scored()
            await asyncio.sleep(0.05)

    server.credentials = authority.expired
    async with server.running():
        predictor = Predictor(settings.model_copy(update={"addresses": (server.address,)}), Metrics())
        with pytest.raises(PredictError, match="certificate has expired"):
            await scored()
    server.credentials = authority.credentials
    async with server.running(), asyncio.timeout(LONG):
        assert await scored_at_last() == RIGHT
    await predictor.close()


async def test_a_server_behind_a_name_is_verified_by_the_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path, server_name="localhost")
    async with Server(credentials=authority.credentials).running() as server:
        port = server.address.rpartition(":")[2]
        settings = settings_of(f"dns:///localhost:{port}", tls=True, tls_ca_file=authority.ca)
        predictor = Predictor(settings)
        try:
            assert (await predictor.control.available("ctr")).somewhere == {3}
            ctr = await predictor.score(ModelVersion("ctr", 3), BatchInputs.whole(encoded(1, 2)), LONG)
        finally:
            await predictor.close()
    assert ctr.tolist() == RIGHT


def test_the_error_names_a_missing_file(tmp_path: Path) -> None:
    settings = PredictorSettings(tls=True, tls_ca_file=tmp_path / "none.pem")
    with pytest.raises(ConfigError, match=r"predictor.tls_ca_file: .*none\.pem: cannot be used: .*No such file"):
        Predictor(settings, Metrics())
