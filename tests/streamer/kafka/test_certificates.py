"""Certificates that expire while the scorer runs."""

import asyncio
import datetime as dt
import ssl
from pathlib import Path

import trustme

from sandbox.host.ports import free_ports
from sandbox.host.tcp_proxy import TcpProxy
from streamer.kafka.security import rejection, security_options
from streamer.settings.deployment import KafkaSettings

WAIT_S = 30.0


class Authority:
    """A certificate authority and its file."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.file = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(self.file)

    def issue(self, *, expired: bool = False) -> trustme.LeafCert:
        """A certificate for 127.0.0.1."""
        now = dt.datetime.now(dt.UTC)
        end = now + dt.timedelta(days=-1 if expired else 1)
        return self._authority.issue_cert("127.0.0.1", not_before=now - dt.timedelta(days=9), not_after=end)

    def server(self, certificate: trustme.LeafCert, *, client_required: bool = False) -> ssl.SSLContext:
        """The context of a server with this certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.file)
        certificate.configure_cert(context)
        context.verify_mode = ssl.CERT_REQUIRED if client_required else ssl.CERT_NONE
        return context


async def test_a_brokers_expired_certificate_is_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with TcpProxy(1, tls=authority.server(authority.issue(expired=True))) as broker:
        settings = KafkaSettings(bootstrap_servers=broker.address, security_protocol="SSL", ssl_ca_file=authority.file)
        reason = await rejection(settings)
    assert reason == f"kafka: no TLS with {broker.address}: its certificate is not accepted: certificate has expired"


async def test_a_broker_that_cannot_be_reached_gives_no_reason_and_a_missing_file_does(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}")
    assert await rejection(settings) is None
    missing = {"security_protocol": "SSL", "ssl_ca_file": tmp_path / "none.pem"}
    reason = await rejection(settings.model_copy(update=missing))
    assert reason is not None
    assert "none.pem" in reason


async def test_a_renewed_certificate_of_our_own_needs_no_restart(tmp_path: Path) -> None:
    """Also while only one of its two files is new."""
    authority, pair = Authority(tmp_path), (tmp_path / "own.pem", tmp_path / "own.key")

    def write(certificate: trustme.LeafCert, *, key: bool = True) -> None:
        pair[0].write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
        if key:
            certificate.private_key_pem.write_to_path(pair[1])

    async def accepted() -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        try:
            async with asyncio.timeout(WAIT_S):
                return await reader.read(5) == b"hello"
        except OSError:
            return False
        finally:
            writer.transport.abort()

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()
        writer.close()

    write(authority.issue(expired=True))
    settings = KafkaSettings(
        security_protocol="SSL", ssl_ca_file=authority.file, ssl_cert_file=pair[0], ssl_key_file=pair[1]
    )
    context = security_options(settings)["ssl_context"]
    tls = authority.server(authority.issue(), client_required=True)
    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=tls) as server:
        port = server.sockets[0].getsockname()[1]
        assert not await accepted()
        renewed = authority.issue()
        write(renewed, key=False)
        assert not await accepted()
        write(renewed)
        assert await accepted()
        assert await accepted()
