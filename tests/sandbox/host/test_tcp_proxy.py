"""The TCP proxy passes bytes in both directions, and resets connections while it does."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from sandbox.host.network_faults import Cut, Delay, Duplicate, Throttle, Truncate
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
            proxy.begin(Cut())
            before.sendall(b"0123456789")
            # Bytes that arrived before the reset can still be read.
            with pytest.raises(ConnectionResetError):
                _read_to_the_end(before)
        proxy.end(Cut())
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


def test_a_truncated_connection_ends_after_its_first_bytes(echo_port: int) -> None:
    with TcpProxy(echo_port) as proxy:
        proxy.begin(Truncate(3))
        with _connect(proxy) as connection:
            connection.sendall(b"0123456789")
            assert _ended(connection), "the server got three bytes, and its answer has no way back"
        proxy.end(Truncate(3))
        with _connect(proxy) as after:
            assert _ask(after, b"hello") == b"hello"


def test_a_delayed_or_throttled_connection_passes_all_bytes_later(echo_port: int) -> None:
    sent = bytes(range(250)) * 20
    with TcpProxy(echo_port) as proxy, _connect(proxy) as connection:
        for fault, at_least_s in ((Delay(0.05), 0.1), (Throttle(50_000), 0.05)):
            proxy.begin(fault)
            began = time.monotonic()
            assert _ask(connection, sent) == sent
            assert time.monotonic() - began > at_least_s
            proxy.end(fault)


def test_a_duplicated_connection_reaches_the_server_twice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT_S)

        def accepted() -> socket.socket:
            connection, _ = server.accept()
            connection.settimeout(WAIT_S)
            return connection

        with TcpProxy(server.getsockname()[1]) as proxy, _connect(proxy) as old, accepted() as of_old:
            proxy.begin(Duplicate(4))
            assert _ended(old)
            assert _ended(of_old)
            with _connect(proxy) as new, accepted() as one, accepted() as other:
                new.sendall(b"0123456789")
                found = {end.recv(100): end for end in (one, other)}
                assert found.keys() == {b"0123456789", b"0123"}
                found[b"0123"].sendall(b"discarded")
                found[b"0123456789"].sendall(b"answer")
                assert new.recv(100) == b"answer"
                new.close()
                assert all(_ended(end) for end in (one, other))


def test_a_fault_that_it_does_not_have_cannot_end() -> None:
    with TcpProxy(1) as proxy, pytest.raises(ValueError, match="not in list"):
        proxy.end(Cut())
