"""The limit of concurrent calls, in simulated time."""

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.serving.concurrency import ConcurrencyLimit
from streamer.types import ModelVersion

A, B = ModelVersion("ctr", 1), ModelVersion("ctr", 2)


class Server:
    """Processes `workers` calls concurrently, in arrival order; a call takes a fixed time and one for each row."""

    def __init__(self, workers: int) -> None:
        self.free = [0.0] * workers

    def ends(self, now: float, rows: int) -> float:
        end = max(now, heapq.heappop(self.free)) + 0.004 + 4e-6 * rows
        heapq.heappush(self.free, end)
        return end


def saturate(limit: ConcurrencyLimit, server: Server, calls: int, version: ModelVersion = A) -> float:
    """Keeps as many calls active as the limit allows; returns calls per second."""
    rng = np.random.default_rng(1)
    now = first = max(server.free)
    active: list[tuple[float, int, float, int, bool, bool]] = []
    started = 0
    for done in range(calls):
        while len(active) < limit.calls_now or not active:
            rows = int(rng.integers(300, 1200))
            started += 1
            at_limit = len(active) + 1 >= limit.calls_now
            heapq.heappush(active, (server.ends(now, rows), started, now, rows, not active, at_limit))
        end, number, left, rows, alone, at_limit = heapq.heappop(active)
        now = end
        limit.replied(version, rows, end - left, alone=alone and number == started, at_limit=at_limit)
        assert 1 <= limit.calls_now <= limit.calls <= 16, done
    return calls / (now - first)


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_a_server_that_queues_calls_gets_a_few_more_than_it_processes(workers: int) -> None:
    limit, server = ConcurrencyLimit(16), Server(workers)
    saturate(limit, server, 6000)
    settled = saturate(limit, server, 2000)
    assert workers <= limit.calls <= workers + 4
    busy = workers / (0.004 + 4e-6 * 750)
    assert settled > 0.9 * busy, "the server does not idle"


def test_it_falls_if_the_server_loses_workers() -> None:
    limit = ConcurrencyLimit(16)
    saturate(limit, Server(8), 6000)
    assert limit.calls >= 8
    saturate(limit, Server(2), 6000)
    assert limit.calls <= 6


def reply(limit: ConcurrencyLimit, seconds: float = 0.004, *, alone: bool = False, version: ModelVersion = A) -> None:
    limit.replied(version, 300, seconds, alone=alone, at_limit=True)


def settled(maximum: int = 16) -> ConcurrencyLimit:
    """A limit that knows the latency of a call without others."""
    limit = ConcurrencyLimit(maximum)
    for _ in range(8):
        reply(limit, alone=True)
    return limit


def test_the_first_calls_and_every_2000th_run_alone() -> None:
    limit = ConcurrencyLimit(8)
    for _ in range(8):
        assert limit.calls_now == 1
        reply(limit, alone=True)
    assert limit.calls_now == limit.calls > 1
    for _ in range(2000):
        reply(limit)
    assert limit.calls_now == 1


def test_each_version_has_its_own_latency() -> None:
    limit = settled()
    before = limit.calls
    for _ in range(400):
        reply(limit, 0.1, version=B)
    assert limit.calls >= before, "no call of B ran alone, so its latency is unknown"
    before = limit.calls
    for _ in range(400):
        reply(limit, 0.1)
    assert limit.calls < before


def test_accepted_calls_raise_it_only_while_it_is_reached() -> None:
    limit = settled()
    for _ in range(400):
        limit.replied(A, 300, 0.004, alone=False, at_limit=False)
    assert limit.calls <= 4
    for _ in range(1900):
        reply(limit)
    assert limit.calls == 16


def test_a_rejection_cuts_it_below_the_accepted_calls() -> None:
    limit = settled()
    for _ in range(1900):
        reply(limit)
    limit.rejected(11, again=False)
    assert repr(limit) == "<ConcurrencyLimit 9.00 of 16, pause 0.00>"
    limit.rejected(11, again=True)
    assert "9.00" in repr(limit), "the same call again says no more"


def test_while_one_call_is_too_much_it_pauses() -> None:
    limit = settled()
    for _ in range(20):
        limit.rejected(1, again=True)
    assert limit.calls == 1
    assert limit.pause == pytest.approx(1.0)
    for _ in range(200):
        limit.rejected(1, again=True)
    assert limit.pause == pytest.approx(4.0), "no worker waits for long after the server has room again"
    for _ in range(11):
        reply(limit)
    assert limit.pause == 0


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(0, 25), st.booleans(), st.floats(0, 10)), max_size=80))
def test_it_stays_between_one_and_its_maximum(maximum: int, events: list[tuple[int, bool, float]]) -> None:
    limit = ConcurrencyLimit(maximum)
    for active, flag, seconds in events:
        if active:
            limit.rejected(active, again=flag)
        else:
            limit.replied(A, 300, seconds, alone=flag, at_limit=True)
        assert 1 <= limit.calls_now <= limit.calls <= maximum
        assert 0 <= limit.pause <= 4
