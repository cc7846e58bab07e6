"""Load balancing, circuits and the retry budget, without servers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.serving.replicas import Replicas
from streamer.serving.server_states import ActiveCall
from streamer.settings.sections import PredictorSettings
from streamer.types import ModelVersion

V, NEXT, OTHER = ModelVersion("ctr", 1), ModelVersion("ctr", 2), ModelVersion("cvr", 1)


def replicas_of(count: int, failures: int = 2) -> Replicas:
    addresses = tuple(f"s{i}" for i in range(count))
    circuit: dict[str, Any] = {"circuit_failures": failures, "circuit_open_ms": 1000, "circuit_max_open_ms": 4000}
    return Replicas(PredictorSettings(addresses=addresses, **circuit))


def call(replicas: Replicas, address: str, seconds: float, version: ModelVersion = V) -> None:
    started = replicas.started(version, address)
    replicas.succeeded(version, address, seconds)
    replicas.ended(started)


def fail(
    replicas: Replicas, address: str, now: float = 0.0, code: str = "UNAVAILABLE", version: ModelVersion = V
) -> None:
    started = replicas.started(version, address)
    replicas.failed(version, address, code, now)
    replicas.ended(started)


def circuit_open(replicas: Replicas, version: ModelVersion = V) -> bool:
    return replicas.of(version)["s0"].circuit_open


def test_a_call_goes_to_the_server_with_fewer_active_calls() -> None:
    replicas = replicas_of(2)
    for address in ("s0", "s1"):
        call(replicas, address, 0.01)
        call(replicas, address, 0.01, OTHER)
    replicas.started(OTHER, "s0")
    assert replicas.pick(V, 0.0) == "s1", "active calls of all models count"
    replicas.started(V, "s1")
    replicas.started(V, "s1")
    assert replicas.pick(V, 0.0) == "s0"


def test_a_server_three_times_as_fast_gets_three_times_the_calls() -> None:
    replicas = replicas_of(2)
    call(replicas, "s0", 0.03)
    call(replicas, "s1", 0.01)
    for _ in range(8):
        address = replicas.pick(V, 0.0)
        assert address is not None
        replicas.started(V, address)
    assert [server.active_calls for server in replicas.servers.values()] == [2, 6]


@pytest.mark.parametrize("circuit_opened", [False, True])
def test_one_slow_reply_does_not_exclude_a_server_permanently(circuit_opened: bool) -> None:
    replicas = replicas_of(2)
    call(replicas, "s0", 0.003)
    call(replicas, "s1", 0.3)
    if circuit_opened:
        fail(replicas, "s1")
        fail(replicas, "s1")
    counts = {"s0": 0, "s1": 0}
    for now in range(20_000):
        address = replicas.pick(V, float(now))
        assert address is not None
        counts[address] += 1
        call(replicas, address, 0.003)
    assert counts["s1"] > 5_000


def test_a_server_that_stays_slow_gets_few_of_the_calls() -> None:
    replicas = replicas_of(2)
    seconds = {"s0": 0.003, "s1": 0.03}
    for address, each in seconds.items():
        call(replicas, address, each)
    counts = {"s0": 0, "s1": 0}
    for now in range(20_000):
        picked = replicas.pick(V, float(now))
        assert picked is not None
        counts[picked] += 1
        call(replicas, picked, seconds[picked])
    assert 0 < counts["s1"] < 200


def test_a_new_version_starts_with_what_is_known_of_its_servers() -> None:
    replicas = replicas_of(2)
    call(replicas, "s0", 0.3)
    call(replicas, "s1", 0.003)
    assert replicas.pick(NEXT, 0.0) == "s1"


CODES = ["FAILED_PRECONDITION", "UNIMPLEMENTED", "PERMISSION_DENIED", "UNAUTHENTICATED", "INTERNAL", "UNAVAILABLE", "X"]


@pytest.mark.parametrize("code", CODES)
def test_a_server_that_fails_at_once_gets_few_calls_whatever_the_code(code: str) -> None:
    replicas = replicas_of(2)
    counts = {"s0": 0, "s1": 0}
    for number in range(300):
        now = number / 100
        address = replicas.pick(V, now)
        assert address is not None
        counts[address] += 1
        if address == "s0":
            fail(replicas, address, now, code)
        else:
            call(replicas, address, 0.003)
    assert counts["s0"] <= 5


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "NOT_FOUND", "MESSAGE_TOO_LARGE", "CLOSED"])
def test_a_failure_that_is_not_the_servers_keeps_the_circuit_closed(code: str) -> None:
    replicas = replicas_of(1)
    for _ in range(20):
        fail(replicas, "s0", code=code)
        assert not circuit_open(replicas)
        assert replicas.pick(V, 0.0) == "s0"


def test_a_circuit_belongs_to_one_version_on_one_server() -> None:
    replicas = replicas_of(2)
    for _ in range(2):
        fail(replicas, "s0", version=OTHER)
    assert replicas.pick(OTHER, 0.0) == "s1"
    assert circuit_open(replicas, OTHER)
    for version in (V, NEXT, ModelVersion("cvr", 2)):
        assert not circuit_open(replicas, version)
    assert [replicas.circuit_open(*of) for of in (("cvr", "s0"), ("cvr", "s1"), ("ctr", "s0"))] == [True, False, False]


def test_a_server_whose_limit_is_reached_comes_last() -> None:
    replicas = replicas_of(2)
    call(replicas, "s0", 0.001)
    call(replicas, "s1", 0.1)
    assert replicas.pick(V, 0.0) == "s0"
    replicas.started(OTHER, "s0")
    assert not replicas.servers["s0"].has_room, "its first calls run alone"
    assert replicas.pick(V, 0.0) == "s1", "its threads serve all models"
    assert replicas.pick(V, 0.0, {"s1"}) == "s0"


def test_a_rejected_call_waits_unless_another_server_has_room() -> None:
    replicas = replicas_of(2)
    call(replicas, "s0", 0.01)
    assert replicas.wait_s("s1", {"s0"}, 0.0, waits=0, left=1.0) == 0
    assert 0.001 <= replicas.wait_s(None, {"s0"}, 0.0, waits=0, left=1.0) <= 0.004
    replicas.started(V, "s1")
    assert 0.001 <= replicas.wait_s("s1", {"s0"}, 0.0, waits=0, left=1.0) <= 0.004
    assert 0.0005 <= replicas.wait_s(None, {"s1"}, 0.0, waits=0, left=1.0) <= 0.002, "the latency of s1 is not known"
    assert replicas.wait_s(None, (), 0.0, waits=0, left=1.0) == 0
    assert replicas.wait_s(None, {"s1"}, 0.0, waits=100, left=60.0) == 0.25, "it has rejected the call for long"
    assert replicas.wait_s(None, {"s1"}, 0.0, waits=100, left=0.04) == 0.01


def test_the_limits_of_the_servers_add_up_without_those_that_are_down() -> None:
    replicas = replicas_of(2)
    assert (replicas.calls, replicas.calls_now) == (6, 2)
    for _ in range(2):
        fail(replicas, "s1")
    assert (replicas.calls, replicas.calls_now) == (3, 1)
    for _ in range(2):
        fail(replicas, "s0")
    assert replicas.calls == 6, "all are down: any one may be back"
    call(replicas, "s1", 0.01)
    assert replicas.calls == 3


def test_a_version_is_called_where_it_is_loaded() -> None:
    replicas = replicas_of(3)
    replicas.report("ctr", {"s0": frozenset({2}), "s1": frozenset({1, 2})}, 0.0)
    assert replicas.holders(V) == ["s1", "s2"], "nothing is known of s2"
    assert replicas.holders(OTHER) == ["s0", "s1", "s2"]
    assert replicas.pick(V, 0.0) == "s1"
    replicas.failed(V, "s1", "NOT_FOUND", 0.0)
    assert replicas.holders(V) == ["s2"]
    replicas.failed(V, "s2", "NOT_FOUND", 0.0)
    assert replicas.holders(V) == ["s0", "s1", "s2"], "a report may be old: all are asked again"
    replicas.succeeded(V, "s0", 0.01)
    assert replicas.holders(V) == ["s0"]
    replicas.report("ctr", {"s0": frozenset(), "s1": frozenset({1})}, 0.0)
    assert replicas.holders(V) == ["s1"]


def test_a_server_without_the_version_does_not_replace_one_with_an_open_circuit() -> None:
    replicas = replicas_of(2)
    replicas.report("ctr", {"s0": frozenset(), "s1": frozenset({1})}, 0.0)
    for _ in range(2):
        fail(replicas, "s1")
    assert replicas.pick(V, 0.0) is None


@pytest.mark.parametrize(
    ("codes", "rejection"),
    [
        (["INVALID_REPLY", "INVALID_REPLY"], "INVALID_REPLY"),
        (["FAILED_PRECONDITION", "INTERNAL"], "FAILED_PRECONDITION"),
        (["FAILED_PRECONDITION", "UNAVAILABLE"], "UNAVAILABLE"),
        (["DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"], "UNAVAILABLE"),
    ],
)
def test_a_rejection_names_the_versions_fault_only_if_it_is_that_everywhere(codes: list[str], rejection: str) -> None:
    replicas = replicas_of(2)
    for address, code in zip(("s0", "s1"), codes, strict=True):
        for _ in range(2):
            fail(replicas, address, code=code)
    assert replicas.pick(V, 0.0) is None
    assert replicas.rejection(V) == rejection


def test_a_version_without_calls_is_forgotten_with_its_circuit() -> None:
    replicas = replicas_of(1)
    for version in (V, NEXT):
        replicas.pick(version, 0.0)
    for _ in range(2):
        fail(replicas, "s0", version=NEXT)
    for now in (50.0, 100.0):
        replicas.pick(V, now)
        replicas.report("ctr", {}, now)
        assert replicas.circuit_open("ctr", "s0") == (now < 60)


def test_servers_come_and_go() -> None:
    replicas = replicas_of(2)
    call(replicas, "s1", 0.01)
    removed = replicas.started(V, "s0")
    replicas.set_servers(["s1", "s2"])
    replicas.succeeded(V, "s0", 0.01)
    replicas.failed(V, "s0", "UNAVAILABLE", 0.0)
    replicas.ended(removed)
    assert list(replicas.of(V)) == list(replicas.of(NEXT)) == ["s1", "s2"]
    assert replicas.pick(V, 0.0) == "s2", "the new one has no calls yet"
    assert replicas.servers["s1"].latency_s == 0.01


def test_repeated_failures_open_the_circuit_and_one_call_probes_the_server() -> None:
    replicas = replicas_of(1)
    fail(replicas, "s0")
    assert replicas.pick(V, 0.0) == "s0"
    fail(replicas, "s0")
    assert circuit_open(replicas)
    assert replicas.pick(V, 0.99) is None
    assert replicas.pick(V, 1.0) == "s0"
    replicas.started(OTHER, "s0")
    assert replicas.pick(V, 1.0) == "s0", "a call of another model is no probe"
    probe = replicas.started(V, "s0")
    assert replicas.pick(V, 1.0) is None
    replicas.succeeded(V, "s0", 0.01)
    replicas.ended(probe)
    assert not circuit_open(replicas)
    assert replicas.pick(V, 1.0) == "s0"


def test_each_further_failure_doubles_the_pause_up_to_a_bound() -> None:
    replicas = replicas_of(1)
    fail(replicas, "s0")
    pauses = []
    now = 0.0
    for _ in range(5):
        fail(replicas, "s0", now)
        pauses.append(replicas.of(V)["s0"].circuit_open_until - now)
        now = replicas.of(V)["s0"].circuit_open_until
    assert pauses == [1.0, 2.0, 4.0, 4.0, 4.0]


def test_calls_that_were_sent_before_the_circuit_opened_do_not_lengthen_its_pause() -> None:
    """A server that stops for a moment fails all its active calls: that is one fault."""
    replicas = replicas_of(1)
    before = [replicas.started(V, "s0") for _ in range(10)]
    for active in before:
        replicas.failed(V, "s0", "DEADLINE_EXCEEDED", 0.0)
        replicas.ended(active)
    assert replicas.of(V)["s0"].circuit_open_until == 1.0
    fail(replicas, "s0", 1.0)
    assert replicas.of(V)["s0"].circuit_open_until == 3.0, "the probe's failure does"


def test_a_success_resets_the_failure_count() -> None:
    replicas = replicas_of(1)
    for _ in range(5):
        fail(replicas, "s0")
        call(replicas, "s0", 0.01)
        assert not circuit_open(replicas)


def test_tried_servers_are_not_picked() -> None:
    replicas = replicas_of(3)
    assert replicas.pick(V, 0.0, {"s0"}) == "s1"
    assert replicas.pick(V, 0.0, {"s0", "s1", "s2"}) is None


def test_retries_are_a_share_of_the_successes_of_their_model() -> None:
    replicas = replicas_of(1)
    while replicas.take_retry("ctr"):
        pass
    for _ in range(100):
        call(replicas, "s0", 0.01)
    assert sum(replicas.take_retry("ctr") for _ in range(100)) == pytest.approx(10, abs=1)
    assert sum(replicas.take_retry("cvr") for _ in range(100)) == 10, "a model that fails spends only its own"


ACTIONS = ["start", "succeed", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "NOT_FOUND", "report", "servers"]


@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.sampled_from([V, NEXT, OTHER]), st.integers(0, 7)), max_size=60))
def test_invariants_hold_after_any_sequence(actions: list[tuple[str, ModelVersion, int]]) -> None:
    replicas = replicas_of(3)
    active: list[tuple[ModelVersion, str, ActiveCall]] = []
    for now, (action, version, number) in enumerate(actions):
        chosen = {f"s{i}" for i in range(3) if number & 1 << i}
        if action == "start":
            address = replicas.pick(version, float(now), chosen)
            if address is not None:
                assert address not in chosen
                assert address in replicas.holders(version)
                assert replicas.of(version)[address].may_call(now)
                active.append((version, address, replicas.started(version, address)))
        elif action == "report":
            replicas.report(version.name, dict.fromkeys(chosen, frozenset({number % 3})), float(now))
        elif action == "servers":
            replicas.set_servers(sorted(chosen | {"s0"}))
        elif active:
            called, where, started = active.pop(number % len(active))
            if action == "succeed":
                replicas.succeeded(called, where, 0.01)
            else:
                replicas.failed(called, where, action, float(now))
            replicas.ended(started)
        counted = {id(server) for server in replicas.servers.values()}
        still = [of for _, _, of in active if id(of.server) in counted]
        assert sum(server.active_calls for server in replicas.servers.values()) == len(still)
    for _, _, started in active:
        replicas.ended(started)
    for version in (V, NEXT, OTHER):
        assert replicas.pick(version, 1e9) is not None, "a server gets a call again once every call has ended"
        assert all(not server.active_calls for server in replicas.servers.values())
