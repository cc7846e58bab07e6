"""The adaptive concurrency limit against a simulated server, in simulated time."""

import heapq

import numpy as np
import pytest

from streamer.scoring.concurrency import ConcurrencyLimit, RejectionLimit
from streamer.types import ModelVersion

A, B = ModelVersion("ctr", 1), ModelVersion("ctr", 2)


class Server:
    """Processes `workers` calls concurrently, in arrival order.

    A call takes a fixed time and a time for each row.
    """

    def __init__(self, workers: int) -> None:
        self.free = [0.0] * workers

    def ends(self, now: float, rows: int) -> float:
        end = max(now, heapq.heappop(self.free)) + 0.004 + 4e-6 * rows
        heapq.heappush(self.free, end)
        return end


def saturate(limit: ConcurrencyLimit, server: Server, calls: int, *, seed: int = 1, version: ModelVersion = A) -> float:
    """Keeps as many calls active as the limit allows; returns calls per second."""
    rng = np.random.default_rng(seed)
    now = first = max(server.free)
    active: list[tuple[float, int, float, int, int, bool]] = []
    started = 0
    for done in range(calls):
        while len(active) < limit.calls or not active:
            rows = int(rng.integers(300, 1200))
            started += 1
            heapq.heappush(active, (server.ends(now, rows), started, now, rows, started, not active))
        end, _, left, rows, number, started_alone = heapq.heappop(active)
        now = end
        limit.observe(version, rows, end - left, alone=started_alone and number == started)
        assert 1 <= limit.calls <= 16, done
    return calls / (now - first)


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_it_finds_the_number_of_calls_that_the_server_processes(workers: int) -> None:
    limit, server = ConcurrencyLimit(16), Server(workers)
    saturate(limit, server, 6000)
    settled = saturate(limit, server, 2000)
    assert workers <= limit.calls <= workers + 3
    busy = workers / (0.004 + 4e-6 * 750)
    assert settled > 0.9 * busy, "the server does not idle"


def test_it_falls_if_the_server_loses_workers() -> None:
    limit = ConcurrencyLimit(16)
    saturate(limit, Server(8), 6000)
    assert limit.calls >= 8
    saturate(limit, Server(2), 6000)
    assert limit.calls <= 5


def test_each_version_has_its_own_latency_and_only_recent_versions_are_kept() -> None:
    limit = ConcurrencyLimit(4)
    limit.observe(A, 300, 0.001, alone=True)
    for _ in range(400):
        limit.observe(B, 300, 0.1, alone=False)
    assert limit.calls == 4, "no call of B ran alone, so its latency is unknown"
    for number in range(10, 74):
        limit.observe(ModelVersion("ctr", number), 300, 0.001, alone=True)
    for _ in range(400):
        limit.observe(A, 300, 0.1, alone=False)
    assert limit.calls == 4, "the latency of A was evicted"


def test_the_latencies_of_many_models_are_kept() -> None:
    limit = ConcurrencyLimit(4)
    models = [ModelVersion(f"model-{i}", 1) for i in range(30)]
    for version in models:
        limit.observe(version, 300, 0.001, alone=True)
    for _ in range(10):
        for version in models:
            limit.observe(version, 300, 0.1, alone=False)
    assert limit.calls < 4, "calls of any model are queued in the server"


def test_the_first_call_and_every_500th_run_alone() -> None:
    limit = ConcurrencyLimit(8)
    assert limit.calls == 1
    limit.observe(A, 300, 0.004, alone=True)
    assert limit.calls == 8
    for _ in range(500):
        limit.observe(A, 300, 0.004, alone=False)
    assert limit.calls == 1


def reject_above(limit: RejectionLimit, threads: int, calls: int) -> tuple[int, float]:
    """Sends calls in rounds to a server that rejects those above its threads.

    Returns how many were rejected, and the mean limit.
    """
    sent = rejected = rounds = total = 0
    while sent < calls:
        active = limit.calls
        assert 1 <= active <= 16
        rounds, total, sent = rounds + 1, total + active, sent + active
        for number in range(active):
            if number < threads:
                limit.accepted()
            else:
                limit.rejected(active)
                rejected += 1
    return rejected, total / rounds


@pytest.mark.parametrize("threads", [1, 2, 4, 8])
def test_a_server_that_rejects_calls_gets_as_many_as_it_accepts(threads: int) -> None:
    limit = RejectionLimit(16)
    reject_above(limit, threads, 2000)
    rejected, mean = reject_above(limit, threads, 20_000)
    assert rejected < 0.03 * 20_000
    assert 0.7 * threads <= mean <= threads + 1
    assert reject_above(limit, 16, 20_000)[0] == 0
    assert limit.calls == 16, "it grows again when the server has more threads"
