from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.serving.replicas import Replicas
from streamer.settings.sections import PredictorSettings


def replicas_of(count: int, failures: int = 2) -> Replicas:
    addresses = tuple(f"s{i}" for i in range(count))
    circuit: dict[str, Any] = {"circuit_failures": failures, "circuit_open_ms": 1000, "circuit_max_open_ms": 4000}
    return Replicas(PredictorSettings(addresses=addresses, **circuit))


def call(replicas: Replicas, index: int, seconds: float) -> None:
    replicas.started(index)
    replicas.succeeded(index, seconds)
    replicas.ended(index)


def fail(replicas: Replicas, index: int, now: float) -> None:
    replicas.started(index)
    replicas.failed(index, now)
    replicas.ended(index)


def circuit_open(replicas: Replicas) -> bool:
    return replicas.replicas[0].circuit_open


def test_a_call_goes_to_the_server_with_fewer_active_calls() -> None:
    replicas = replicas_of(2)
    for index in (0, 1):
        call(replicas, index, 0.01)
    replicas.started(0)
    assert replicas.pick(0.0) == 1
    replicas.started(1)
    replicas.started(1)
    assert replicas.pick(0.0) == 0


def test_a_server_three_times_as_fast_gets_three_times_the_calls() -> None:
    replicas = replicas_of(2)
    call(replicas, 0, 0.03)
    call(replicas, 1, 0.01)
    for _ in range(8):
        index = replicas.pick(0.0)
        assert index is not None
        replicas.started(index)
    assert [r.active_calls for r in replicas.replicas] == [2, 6]


@pytest.mark.parametrize("circuit_opened", [False, True])
def test_one_slow_reply_does_not_exclude_a_server_permanently(circuit_opened: bool) -> None:
    replicas = replicas_of(2)
    call(replicas, 0, 0.003)
    call(replicas, 1, 0.3)
    if circuit_opened:
        fail(replicas, 1, 0.0)
        fail(replicas, 1, 0.0)
    counts = [0, 0]
    for now in range(20_000):
        index = replicas.pick(float(now))
        assert index is not None
        counts[index] += 1
        call(replicas, index, 0.003)
    assert counts[1] > 5_000


def test_a_server_that_stays_slow_gets_few_of_the_calls() -> None:
    replicas = replicas_of(2)
    seconds = [0.003, 0.03]
    for at, each in enumerate(seconds):
        call(replicas, at, each)
    counts = [0, 0]
    for now in range(20_000):
        index = replicas.pick(float(now))
        assert index is not None
        counts[index] += 1
        call(replicas, index, seconds[index])
    assert 0 < counts[1] < 200


def test_repeated_failures_open_the_circuit_and_one_call_probes_the_server() -> None:
    replicas = replicas_of(1)
    fail(replicas, 0, 0.0)
    assert replicas.pick(0.0) == 0
    fail(replicas, 0, 0.0)
    assert circuit_open(replicas)
    assert replicas.pick(0.99) is None
    assert replicas.pick(1.0) == 0
    replicas.started(0)
    assert replicas.pick(1.0) is None
    replicas.succeeded(0, 0.01)
    replicas.ended(0)
    assert not circuit_open(replicas)
    assert replicas.pick(1.0) == 0


def test_each_further_failure_doubles_the_pause_up_to_a_bound() -> None:
    replicas = replicas_of(1)
    fail(replicas, 0, 0.0)
    pauses = []
    now = 0.0
    for _ in range(5):
        fail(replicas, 0, now)
        pauses.append(replicas.replicas[0].circuit_open_until - now)
        now = replicas.replicas[0].circuit_open_until
    assert pauses == [1.0, 2.0, 4.0, 4.0, 4.0]


def test_a_success_resets_the_failure_count() -> None:
    replicas = replicas_of(1)
    for _ in range(5):
        fail(replicas, 0, 0.0)
        call(replicas, 0, 0.01)
        assert not circuit_open(replicas)


def test_tried_servers_are_not_picked() -> None:
    replicas = replicas_of(3)
    assert replicas.pick(0.0, {0}) == 1
    assert replicas.pick(0.0, {0, 1, 2}) is None


def test_retries_are_a_share_of_the_successes() -> None:
    replicas = replicas_of(1)
    while replicas.take_retry():
        pass
    for _ in range(100):
        call(replicas, 0, 0.01)
    assert sum(replicas.take_retry() for _ in range(100)) == pytest.approx(10, abs=1)


@given(st.lists(st.sampled_from(["start", "succeed", "fail", "end"]), max_size=60))
def test_active_calls_are_counted(actions: list[str]) -> None:
    replicas = replicas_of(2)
    active: list[int] = []
    for now, action in enumerate(actions):
        if action == "start":
            index = replicas.pick(float(now))
            if index is not None:
                replicas.started(index)
                active.append(index)
        elif active:
            index = active.pop()
            if action == "succeed":
                replicas.succeeded(index, 0.01)
            elif action == "fail":
                replicas.failed(index, float(now))
            replicas.ended(index)
    assert [r.active_calls for r in replicas.replicas] == [active.count(0), active.count(1)]
    # After any sequence, a server gets a call again once every call has ended.
    for index in active:
        replicas.ended(index)
    assert replicas.pick(1e9) is not None
