"""The version that shall serve."""

from typing import Any

import pytest

from streamer.rollout.events import Failed, Pin, Prepared, RollBack, Tick, Unpin
from streamer.rollout.machine import step
from streamer.rollout.state import SharedVersion, State
from streamer.rollout.transitions import Kind
from streamer.rollout.user_share import UserShare


def state_of(*, available: set[int] | None = None, **fields: Any) -> State:
    return State("ctr", ramp_s=10.0, available=frozenset(available or ()), **fields)


def wanted(state: State, available: set[int], now: float = 0.0, labelled: int | None = None) -> int | None:
    return state_after(state, available).wanted(labelled, now)


def state_after(state: State, available: set[int]) -> State:
    """The state when the servers have these versions; no role is lost."""
    fields = {name: getattr(state, name) for name in State.__slots__}
    return State(**{**fields, "available": frozenset(available)})


def pinned(state: State, version: int) -> State:
    """The state after an operator has pinned a version that was prepared."""
    return step(state, Prepared(version, Pin(version, state.epoch)), 0.0)[0]


@pytest.mark.parametrize(
    ("serving", "available", "version"),
    [
        (None, set(), None),
        (None, {1}, 1),
        (None, {3, 1, 2}, 3),
        (2, {2}, None),
        (2, {1, 2}, None),
        (2, {2, 3, 4}, 4),
        (3, {1, 2}, 2),  # the serving one has vanished: an older one serves
        (3, {4, 5}, 5),
        (3, set(), None),
    ],
)
def test_the_version_to_prepare(serving: int | None, available: set[int], version: int | None) -> None:
    assert wanted(state_of(serving=serving), available) == version


@pytest.mark.parametrize(
    ("serving", "incoming", "incomplete", "version"),
    [
        (1, None, {3}, 2),
        (1, None, {2, 3}, None),
        (2, None, {2}, 3),  # one server lacks the serving version: it is called on the others
        (1, 3, {3}, 3),  # a server that restarts during a ramp
        (0, None, {3}, 2),
        (0, None, {1, 2, 3}, 3),
        (None, None, {3}, 2),
        (None, None, {1, 2, 3}, 3),
    ],
)
def test_a_newer_version_starts_when_every_server_has_it(
    serving: int | None, incoming: int | None, incomplete: set[int], version: int | None
) -> None:
    shared = incoming and SharedVersion(incoming, UserShare(0.0, 10.0))
    state = state_of(serving=serving, incoming=shared, incomplete=frozenset(incomplete))
    assert wanted(state, {1, 2, 3}) == version


def test_nothing_serves_before_it_is_prepared() -> None:
    before = state_of(available={4})
    assert wanted(before, {4}) == 4
    asked, _ = step(before, Tick(), 0.0)
    after, _ = step(asked, Prepared(4, Tick()), 0.0)
    assert (asked.serving, after.serving) == (None, 4)
    assert wanted(after, {4}) is None


def test_a_version_that_failed_is_retried_after_a_pause() -> None:
    state, _ = step(state_of(serving=1), Failed(3, is_own_fault=True), 100.0)
    assert wanted(state, {1, 3}, 129.9) is None
    assert wanted(state, {1, 2, 3}, 129.9) == 2
    assert wanted(state, {1, 2, 3}, 130.0) == 3
    assert state.serving == 1


def test_a_version_that_failed_by_the_servers_fault_is_retried_at_once() -> None:
    state, _ = step(state_of(serving=1), Failed(3, is_own_fault=False), 100.0)
    assert wanted(state, {1, 3}, 100.0) == 3


def test_the_serving_one_has_vanished_and_the_newest_has_failed() -> None:
    state, _ = step(state_of(serving=5), Failed(4, is_own_fault=True), 0.0)
    assert wanted(state, {3, 4}, 1.0) == 3


def test_a_version_that_has_served_is_not_a_failed_one() -> None:
    state, _ = step(state_of(available={1, 2}), Failed(2, is_own_fault=True), 0.0)
    state = pinned(pinned(state, 2), 1)
    assert wanted(step(state, Unpin(), 0.0)[0], {1, 2}, 1.0) == 2


def test_a_pinned_version_stays_when_newer_ones_appear() -> None:
    state = state_of(serving=3, pinned=2, available={2, 3})
    assert wanted(state, {1, 2, 3, 4}) == 2
    state = pinned(state, 2)
    assert wanted(state, {1, 2, 3, 4}) is None
    assert wanted(step(state, Unpin(), 0.0)[0], {1, 2, 3, 4}) == 4


def test_a_pinned_version_that_has_vanished_does_not_stop_the_service() -> None:
    assert wanted(state_of(serving=2, pinned=2), {3, 4}) == 4
    state = state_of(serving=4, pinned=2)
    assert wanted(state, {3, 4, 5}) is None, "no newer one is wanted while one is pinned"
    assert wanted(state, {2, 4, 5}) == 2


def test_a_rejected_version_does_not_come_back_by_itself() -> None:
    state, _ = step(state_of(serving=3, previous=2, available={2, 3}), RollBack("asked"), 0.0)
    assert wanted(state, {2, 3}) is None
    assert wanted(state, {2, 3, 4}) == 4
    assert wanted(state, {3}) == 3, "no other one is available"
    assert wanted(step(state, Unpin(), 0.0)[0], {2, 3}) == 3


def test_an_operator_may_want_a_rejected_version() -> None:
    state = state_of(serving=2, pinned=3, rejected=frozenset({3}), available={2, 3})
    assert wanted(state, {2, 3}) == 3
    state = pinned(state, 3)
    assert (state.serving, state.pinned, state.rejected) == (3, 3, frozenset())
    state, _ = step(state, RollBack("asked"), 0.0)
    assert state.pinned is None


@pytest.mark.parametrize(
    ("serving", "available", "labelled", "version"),
    [
        (None, {1, 2}, 1, 1),
        (None, {1, 2}, None, None),  # the label leads nowhere: no version starts
        (2, {1, 2, 3}, 2, None),  # a newer version alone changes nothing
        (2, {1, 2, 3}, 3, 3),
        (2, {1, 2, 3}, 1, 1),
        (2, {1, 2, 3}, None, None),
        (2, {1, 2, 3}, 4, None),  # not on all servers yet
        (2, {1, 3}, 1, 1),
        (2, {1, 3}, None, 3),  # the serving one has vanished: the newest one
        (2, set(), 2, None),
    ],
)
def test_the_version_that_a_label_leads_to(
    serving: int | None, available: set[int], labelled: int | None, version: int | None
) -> None:
    assert wanted(state_of(by_label=True, serving=serving), available, labelled=labelled) == version


def test_a_labelled_version_that_was_rejected_or_has_failed_waits() -> None:
    state = state_of(by_label=True, serving=1, rejected=frozenset({3}), available={1, 2, 3})
    state, _ = step(state, Failed(2, is_own_fault=True), 0.0)
    assert wanted(state, {1, 2, 3}, 1.0, 3) is None
    assert wanted(state, {1, 2, 3}, 1.0, 2) is None
    assert wanted(state, {1, 2, 3}, 30.0, 2) == 2
    assert [state.is_fit(version, 1.0) for version in (1, 2, 3)] == [True, False, False]
    state, _ = step(state, Unpin(), 0.0)
    assert wanted(state, {1, 2, 3}, 1.0, 3) == 3


def test_an_operators_order_is_above_a_label() -> None:
    state = state_of(by_label=True, serving=2, pinned=1, available={1, 2, 3})
    assert wanted(state, {1, 2, 3}, labelled=3) == 1
    assert wanted(pinned(state, 1), {1, 2, 3}, labelled=3) is None


def test_only_a_label_rolls_back() -> None:
    """Its older version has all users at once; other versions get them by a ramp."""

    def kind_after(labelled: int | None, version: int, **fields: Any) -> Kind:
        state = state_of(available={1, 2, 3}, **fields)
        after, _ = step(state, Prepared(version, Tick(labelled)), 0.0)
        assert version in after.answering
        return after.kind

    assert kind_after(1, 1, by_label=True, serving=2) is Kind.STABLE
    assert kind_after(3, 3, by_label=True, serving=2) is Kind.RAMPING
    assert kind_after(1, 1, by_label=True) is Kind.STABLE
    assert kind_after(None, 1, serving=2, pinned=1) is Kind.RAMPING
