"""The TCP proxy passes bytes in both directions, and resets connections while it does."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from sandbox.host.tcp_proxy import TcpProxy

WAIT_S = 30.0


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A server that sends back the received bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                while data := connection.recv(1 << 16):
                    connection.sendall(data)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=WAIT_S)


def _ask(connection: socket.socket, sent: bytes) -> bytes:
    connection.sendall(sent)
    found = b""
    while len(found) < len(sent):
        found += connection.recv(1 << 16)
    return found


def _ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(10) == b""
    except ConnectionResetError:
        return True


def _read_to_the_end(connection: socket.socket) -> None:
    while connection.recv(100):
        pass


def test_bytes_pass_in_both_directions(echo_port: int) -> None:
    large = bytes(range(256)) * 4096
    with TcpProxy(echo_port) as proxy, _connect(proxy) as one, _connect(proxy) as other:
        assert _ask(one, large) == large
        assert _ask(other, b"hello") == b"hello"


def test_a_cut_connection_is_reset_and_a_restored_proxy_works(echo_port: int) -> None:
    with TcpProxy(echo_port) as proxy:
        with _connect(proxy) as before:
            assert _ask(before, b"hello") == b"hello"
            proxy.cut()
            before.sendall(b"0123456789")
            # Bytes that arrived before the reset can still be read.
            with pytest.raises(ConnectionResetError):
                _read_to_the_end(before)
        proxy.restore()
        with _connect(proxy) as after:
            assert _ask(after, b"hello") == b"hello"


def test_a_target_that_is_down_ends_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with TcpProxy(port) as proxy, _connect(proxy) as connection:
        assert _ended(connection)


def test_it_ends_with_connections_open(echo_port: int) -> None:
    with TcpProxy(echo_port) as proxy:
        connection = _connect(proxy)
        assert _ask(connection, b"hello") == b"hello"
    with connection:
        assert _ended(connection)
