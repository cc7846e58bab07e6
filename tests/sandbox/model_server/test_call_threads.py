"""Calls above the number of threads are rejected at once; the others run."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from sandbox.host.loopback import DIRECT
from sandbox.model_server.call_threads import CallThreads, RejectWhenFull

WAIT_S = 30.0


@dataclass
class Slow:
    """A server whose calls run until `release`."""

    threads: int
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    release: threading.Event = field(default_factory=threading.Event)

    def answer(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        self.started.release()
        assert self.release.wait(WAIT_S)
        return request

    def start(self) -> tuple[grpc.Server, int]:
        threads = CallThreads(self.threads)
        method = grpc.unary_unary_rpc_method_handler(self.answer)
        service = grpc.method_handlers_generic_handler("test.Slow", {"Call": method})
        server = grpc.server(threads, handlers=[service], interceptors=[RejectWhenFull(threads)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return server, port


@pytest.fixture(params=[1, 2, 4])
def slow(request: pytest.FixtureRequest) -> Iterator[tuple[Slow, int]]:
    slow = Slow(request.param)
    server, port = slow.start()
    yield slow, port
    slow.release.set()
    server.stop(None).wait(WAIT_S)


def test_a_call_without_a_free_thread_is_rejected_at_once_and_none_waits(slow: tuple[Slow, int]) -> None:
    server, port = slow
    with grpc.insecure_channel(f"127.0.0.1:{port}", DIRECT) as channel:
        call: Any = channel.unary_unary("/test.Slow/Call", bytes, bytes)
        runs = max(server.threads - 1, 1)
        inside = [call.future(b"in", timeout=WAIT_S) for _ in range(runs)]
        for _ in inside:
            assert server.started.acquire(timeout=WAIT_S)
        rejected = [call.future(b"x" * 1_000_000, timeout=WAIT_S) for _ in range(10)]
        outcomes = {(answer.exception().code(), answer.exception().details()) for answer in rejected}
        assert outcomes == {(grpc.StatusCode.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")}
        assert not any(answer.done() for answer in inside)
        server.release.set()
        assert [answer.result(WAIT_S) for answer in inside] == [b"in"] * runs
        assert not server.started.acquire(blocking=False)


def test_an_unknown_method_is_unimplemented_also_when_all_threads_are_busy(slow: tuple[Slow, int]) -> None:
    server, port = slow
    with grpc.insecure_channel(f"127.0.0.1:{port}", DIRECT) as channel:
        call: Any = channel.unary_unary("/test.Slow/Call", bytes, bytes)
        inside = call.future(b"", timeout=WAIT_S)
        assert server.started.acquire(timeout=WAIT_S)
        other: Any = channel.unary_unary("/test.Slow/Other", bytes, bytes)
        assert other.future(b"", timeout=WAIT_S).exception(WAIT_S).code() is grpc.StatusCode.UNIMPLEMENTED
        server.release.set()
        assert inside.result(WAIT_S) == b""


def test_a_thread_is_free_again_after_a_fault() -> None:
    threads = CallThreads(2)
    failed = threads.submit(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        failed.result(WAIT_S)
    assert not threads.is_full
    threads.shutdown()
