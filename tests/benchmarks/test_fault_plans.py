"""Plans of network faults follow from their seeds, and the outcome of a plan has its reasons."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.chaos.fault_plans import LONGEST_S, plan_of
from benchmarks.chaos.plans import Seen, execute, reasons
from sandbox.host.network_faults import Duplicate
from sandbox.host.tcp_proxy import TcpProxy
from sandbox.traffic.checker import Checker
from sandbox.traffic.sent_requests import SentRequests

SEEDS = st.integers(0, 2**32)
NOTHING = Seen.of(Checker(SentRequests(), []))


@given(SEEDS)
def test_a_plan_follows_from_its_seed(seed: int) -> None:
    assert plan_of(seed) == plan_of(seed)
    assert f"plan {seed}:" in str(plan_of(seed))


@given(SEEDS)
def test_steps_begin_in_order_and_end_in_time(seed: int) -> None:
    plan = plan_of(seed)
    assert [step.at for step in plan.steps] == sorted(step.at for step in plan.steps)
    assert all(step.at >= 0 and step.seconds >= 0 and step.at + step.seconds <= LONGEST_S for step in plan.steps)
    begun: Counter[object] = Counter()
    for change in plan.changes():
        begun[change.step] += 1 if change.begins else -1
        assert begun[change.step] >= 0
    assert not +begun, "each step ends"


@given(SEEDS)
def test_no_copy_of_a_connection_repeats_a_request_to_a_broker(seed: int) -> None:
    copies = [step.fault for step in plan_of(seed).steps if step.side == "broker" and isinstance(step.fault, Duplicate)]
    assert all(copy.size <= 16 for copy in copies)


def test_the_first_plans_have_every_fault_on_both_sides() -> None:
    found = Counter((step.side, type(step.fault)) for seed in range(500) for step in plan_of(seed).steps)
    assert len(found) == 10
    assert min(found.values()) > 80


@pytest.mark.parametrize(
    ("change", "recovered", "said"),
    [
        ({"scored": 100, "others": 50}, True, []),
        ({"wrong": 2}, True, ["2 wrong"]),
        ({"duplicates": 1}, True, ["1 duplicate"]),
        ({"dead_lettered": 1}, True, ["1 dead-lettered"]),
        ({}, False, ["not all requests are scored 20 s after the plan"]),
    ],
)
def test_each_wrong_outcome_has_its_reason(change: dict[str, int], recovered: bool, said: list[str]) -> None:
    assert reasons(NOTHING, replace(NOTHING, **change), unanswered=0, recovered=recovered) == said
    assert reasons(NOTHING, NOTHING, unanswered=7, recovered=True) == ["7 lost"]


def test_after_a_plan_no_proxy_has_a_fault() -> None:
    plan = next(plan for plan in map(plan_of, range(500)) if plan.changes()[-1].at < 0.4 and len(plan.steps) > 2)
    with TcpProxy(1) as one, TcpProxy(1) as other:
        execute(plan, {"broker": one, "model_server": other})
        for proxy in (one, other):
            assert repr(proxy).endswith(", []>")
