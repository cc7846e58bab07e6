"""The recent requests that warm a new version."""

from streamer.serving.warmup import Preparer
from streamer.settings import Settings
from streamer.testing.model_servers import VirtualServers


def test_the_remembered_requests_are_bounded_in_number_and_bytes() -> None:
    preparer = Preparer(VirtualServers([{}]), Settings())
    for i in range(40):
        preparer.remember(b"x" * 1000, [("name", b"y" * i)])
    assert preparer.remembered_bytes == 16 * (1004 + 160) + sum(range(24, 40))
    for _ in range(10):
        preparer.remember(b"x" * 2**20, [("name", b"y" * 2**19)])
    assert 2**20 < preparer.remembered_bytes <= 4 * 2**20
    preparer.remember(b"x", [("", b"")] * 10_000)
    assert preparer.remembered_bytes > 10_000 * 100, "an empty header takes a tuple and two objects"
    preparer.remember(b"x" * 2**23, [])
    assert preparer.remembered_bytes == 0
