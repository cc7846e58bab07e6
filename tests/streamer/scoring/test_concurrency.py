"""The adaptive in-flight limit against a simulated server, in simulated time."""

import heapq

import numpy as np
import pytest

from streamer.scoring.concurrency import ConcurrencyLimit
from streamer.types import ModelVersion

A, B = ModelVersion("ctr", 1), ModelVersion("ctr", 2)


class Server:
    """Works on `workers` calls at a time, first come first served; a call takes a fixed time and some for each row."""

    def __init__(self, workers: int) -> None:
        self.free = [0.0] * workers

    def ends(self, now: float, rows: int) -> float:
        end = max(now, heapq.heappop(self.free)) + 0.004 + 4e-6 * rows
        heapq.heappush(self.free, end)
        return end


def saturate(limit: ConcurrencyLimit, server: Server, calls: int, *, seed: int = 1, version: ModelVersion = A) -> float:
    """Keeps as many calls in flight as the limit allows; returns calls a second."""
    rng = np.random.default_rng(seed)
    now = first = max(server.free)
    in_flight: list[tuple[float, int, float, int, int, bool]] = []
    started = 0
    for done in range(calls):
        while len(in_flight) < limit.calls or not in_flight:
            rows = int(rng.integers(300, 1200))
            started += 1
            heapq.heappush(in_flight, (server.ends(now, rows), started, now, rows, started, not in_flight))
        end, _, left, rows, number, company_free = heapq.heappop(in_flight)
        now = end
        limit.observe(version, rows, end - left, alone=company_free and number == started)
        assert 1 <= limit.calls <= 16, done
    return calls / (now - first)


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_it_finds_how_many_calls_the_server_works_on(workers: int) -> None:
    limit, server = ConcurrencyLimit(16), Server(workers)
    saturate(limit, server, 6000)
    settled = saturate(limit, server, 2000)
    assert workers <= limit.calls <= workers + 3
    busy = workers / (0.004 + 4e-6 * 750)
    assert settled > 0.9 * busy, "the server does not idle"


def test_it_follows_a_server_that_becomes_smaller() -> None:
    limit = ConcurrencyLimit(16)
    saturate(limit, Server(8), 6000)
    assert limit.calls >= 8
    saturate(limit, Server(2), 6000)
    assert limit.calls <= 5


def test_versions_have_times_of_their_own_and_only_a_few_are_remembered() -> None:
    limit = ConcurrencyLimit(4)
    limit.observe(A, 300, 0.001, alone=True)
    for _ in range(400):
        limit.observe(B, 300, 0.1, alone=False)
    assert limit.calls == 4, "nothing is known of B, so nothing is held against it"
    for number in range(10, 74):
        limit.observe(ModelVersion("ctr", number), 300, 0.001, alone=True)
    for _ in range(400):
        limit.observe(A, 300, 0.1, alone=False)
    assert limit.calls == 4, "A has been forgotten"


def test_what_was_learnt_of_many_models_side_by_side_is_kept() -> None:
    limit = ConcurrencyLimit(4)
    models = [ModelVersion(f"model-{i}", 1) for i in range(30)]
    for version in models:
        limit.observe(version, 300, 0.001, alone=True)
    for _ in range(10):
        for version in models:
            limit.observe(version, 300, 0.1, alone=False)
    assert limit.calls < 4, "calls wait in the server, whichever model they are of"


def test_one_call_goes_alone_at_first_and_now_and_then() -> None:
    limit = ConcurrencyLimit(8)
    assert limit.calls == 1
    limit.observe(A, 300, 0.004, alone=True)
    assert limit.calls == 8
    for _ in range(500):
        limit.observe(A, 300, 0.004, alone=False)
    assert limit.calls == 1
