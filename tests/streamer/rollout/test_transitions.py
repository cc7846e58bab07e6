"""Every event in every kind of state, with and without a previous and a shadow version."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import pytest

from streamer.errors import PredictError
from streamer.rollout import events
from streamer.rollout.actions import DropCache, Prepare, WatchVersion
from streamer.rollout.machine import step
from streamer.rollout.state import SharedVersion, State
from streamer.rollout.transitions import TRANSITIONS, Kind, TransitionError
from streamer.rollout.user_share import UserShare

SHADOW, PREVIOUS, SERVING, INCOMING, NEW = 3, 4, 5, 6, 7
ALL = frozenset({SHADOW, PREVIOUS, SERVING, INCOMING, NEW})
NOW, RAMP_S = 100.0, 10.0
ORDER = events.CanaryOrder("canary", 0.1)
KINDS = tuple(Kind)


class Roles(NamedTuple):
    kind: Kind
    serving: int | None
    incoming: int | None
    previous: int | None
    shadow: int | None


class Rejected:
    """The event is not possible in this state."""


REJECTED = Rejected()
Cell = Rejected | dict[str, int | None]


def state_of(kind: Kind, *, previous: bool, shadow: bool, by_label: bool = False) -> State:
    """A state of this kind. A ramp is at half of its users."""
    state = State("ctr", by_label, RAMP_S, available=ALL)
    if kind is Kind.NOTHING:
        return state
    incoming = None
    if kind is not Kind.STABLE:
        incoming = SharedVersion(INCOMING, UserShare(NOW - RAMP_S / 2, RAMP_S, 0.1 if kind is Kind.CANARY else None))
    return replace(
        state,
        serving=SERVING,
        incoming=incoming,
        previous=PREVIOUS if previous else None,
        shadow=SharedVersion(SHADOW, UserShare(NOW, 0.0, 0.5, 1)) if shadow else None,
        canary=ORDER,
    )


def roles_of(state: State) -> Roles:
    incoming, shadow = (None if v is None else v.version for v in (state.incoming, state.shadow))
    return Roles(state.kind, state.serving, incoming, state.previous, shadow)


STATES = [
    state_of(kind, previous=previous, shadow=shadow)
    for kind, previous, shadow in product(KINDS, (True, False), (True, False))
    if kind is not Kind.NOTHING or not (previous or shadow)
]
_PIN, _CANARY = events.Pin(NEW, 0), events.Canary(NEW, 0, ORDER)
_ADOPT = events.Adopt(NEW, 0, rejected=frozenset({SERVING}))
_SHADOW, _FOLLOW = events.Shadow(NEW, 0.5), events.FollowCanary(ORDER, NEW)
SAME: Cell = {}
PROMOTED: Cell = {"serving": NEW, "incoming": None, "previous": SERVING}
ADOPTED: Cell = {"serving": NEW, "incoming": None, "previous": None}
ROLLED_BACK: Cell = {"serving": PREVIOUS, "previous": None}
ABORTED: Cell = {"incoming": None}
VANISHED: Cell = {"incoming": None, "shadow": None}
STARTED: Cell = {"incoming": NEW}

# What changes, in NOTHING, STABLE, RAMPING and CANARY. A version that is not prepared changes nothing at first.
EXPECTED: list[tuple[events.Event, tuple[Cell, Cell, Cell, Cell]]] = [
    (events.Available(ALL), (SAME, SAME, SAME, SAME)),
    (events.Available(frozenset({SERVING, NEW})), (SAME, VANISHED, VANISHED, VANISHED)),
    (events.Available(ALL - {SERVING}), (SAME, SAME, SAME, SAME)),
    (events.Tick(), (SAME, SAME, SAME, SAME)),
    (events.Prepared(NEW, events.Tick()), ({"serving": NEW}, STARTED, STARTED, SAME)),
    (_FOLLOW, (REJECTED, SAME, SAME, SAME)),
    (events.FollowCanary(ORDER, None), (REJECTED, SAME, SAME, SAME)),
    (events.FollowCanary(ORDER, SERVING), (REJECTED, SAME, SAME, ABORTED)),
    (events.Prepared(NEW, _FOLLOW), (REJECTED, STARTED, SAME, STARTED)),
    (_PIN, (SAME, SAME, SAME, SAME)),
    (events.Prepared(NEW, _PIN), ({"serving": NEW}, PROMOTED, PROMOTED, PROMOTED)),
    (_CANARY, (REJECTED, SAME, SAME, SAME)),
    (events.Prepared(NEW, _CANARY), (REJECTED, STARTED, STARTED, STARTED)),
    (_SHADOW, (REJECTED, SAME, SAME, SAME)),
    (events.Prepared(NEW, _SHADOW), (REJECTED, {"shadow": NEW}, {"shadow": NEW}, {"shadow": NEW})),
    (events.Shadow(NEW, 0.0), (REJECTED, {"shadow": None}, {"shadow": None}, {"shadow": None})),
    (_ADOPT, (SAME, SAME, SAME, SAME)),
    (events.Prepared(NEW, _ADOPT), ({"serving": NEW}, ADOPTED, ADOPTED, ADOPTED)),
    (events.Adopt(SERVING, 0), (SAME, SAME, ABORTED, ABORTED)),
    (events.Unpin(), (SAME, SAME, SAME, ABORTED)),
    (events.RollBack("asked"), (REJECTED, ROLLED_BACK, ABORTED, ABORTED)),
    (events.Failed(NEW, is_own_fault=True), (SAME, SAME, SAME, SAME)),
    (events.Failed(NEW, is_own_fault=False), (SAME, SAME, SAME, SAME)),
    (events.JudgedBad(SERVING, "drift"), (REJECTED, ROLLED_BACK, SAME, SAME)),
    (events.JudgedBad(INCOMING, "drift"), (REJECTED, SAME, ABORTED, ABORTED)),
]


@pytest.mark.parametrize("state", STATES, ids=lambda state: "-".join(str(role) for role in roles_of(state)))
@pytest.mark.parametrize(("event", "cells"), EXPECTED, ids=lambda value: str(value)[:60])
def test_the_next_state(state: State, event: events.Event, cells: tuple[Cell, ...]) -> None:
    expected = cells[KINDS.index(state.kind)]
    if expected is ROLLED_BACK and state.previous is None:
        expected = REJECTED if isinstance(event, events.RollBack) else SAME
    if isinstance(expected, Rejected):
        with pytest.raises(TransitionError):
            step(state, event, NOW)
        return
    after, _ = step(state, event, NOW)
    before = roles_of(state)._asdict()
    assert roles_of(after)._asdict() == before | {"kind": after.kind} | expected
    assert (after.kind is Kind.NOTHING) == (after.serving is None)


def test_every_event_has_an_expectation() -> None:
    assert {type(event) for event, _ in EXPECTED} == set(events.Event.__args__)
    causes = {type(event.cause) for event, _ in EXPECTED if isinstance(event, events.Prepared)}
    assert causes == set(events.Cause.__args__)


def every_event() -> Iterator[events.Event]:
    """Events of each type about each version, possible or not."""
    versions = (*sorted(ALL), 9)
    orders = (ORDER, events.CanaryOrder(NEW, 1.0))
    causes: list[events.Cause] = [events.Tick(v) for v in (None, *versions)]
    causes += [events.FollowCanary(order, v) for order in orders for v in (None, *versions)]
    causes += [events.Pin(v, epoch) for v in versions for epoch in (0, 1)]
    causes += [events.Canary(v, epoch, order) for v in versions for epoch in (0, 1) for order in orders]
    causes += [events.Shadow(v, share) for v in versions for share in (0.0, 0.5)]
    causes += [events.Adopt(v, epoch, rejected=frozenset({SERVING})) for v in (None, *versions) for epoch in (0, 1)]
    yield from causes
    yield from (events.Prepared(NEW, cause) for cause in causes)
    yield from (events.Available(ALL - {v}) for v in versions)
    yield from (events.Failed(v, is_own_fault=own) for v in versions for own in (True, False))
    yield from (events.JudgedBad(v, "drift") for v in versions)
    yield from (events.Unpin(), events.RollBack("asked"))


def test_the_table_has_the_transitions_that_happen_and_no_others() -> None:
    happened = {event: [Kind(0)] * len(KINDS) for event in TRANSITIONS}
    starts = [
        replace(s, by_label=by_label, ramp_s=r) for s in STATES for by_label in (False, True) for r in (RAMP_S, 0.0)
    ]
    starts += [replace(state, available=ALL - {SERVING}) for state in starts]
    for start, event, now in product(starts, list(every_event()), (NOW, NOW + RAMP_S)):
        cause = event.cause if isinstance(event, events.Prepared) else event
        column = KINDS.index(start.kind)
        try:
            after, actions = step(start, event, now)
        except TransitionError:
            assert not TRANSITIONS[type(cause)][column] or (isinstance(event, events.RollBack) and not start.previous)
            continue
        except PredictError:
            assert isinstance(cause, events.Order | events.Adopt)
            continue
        happened[type(cause)][column] |= after.kind
        assert all(action.version not in start.roles for action in actions if isinstance(action, Prepare))
    assert {event: tuple(kinds) for event, kinds in happened.items()} == dict(TRANSITIONS)


def test_a_transition_outside_the_table_cannot_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRANSITIONS, events.Pin, (Kind.NOTHING,) * 4)
    with pytest.raises(TransitionError, match="no transition from STABLE to STABLE"):
        step(state_of(Kind.STABLE, previous=True, shadow=True), events.Pin(PREVIOUS, 0), NOW)


# Orders of the other processes


def adopted(state: State, *available: int, version: int | None = None, pinned: int | None = None) -> State:
    """The state after an `Adopt` with version 5 rejected; what it needs is prepared."""
    order = events.Adopt(version, 0, pinned, rejected=frozenset({SERVING}))
    state, _ = step(state, events.Available(frozenset(available)), NOW)
    state, actions = step(state, order, NOW)
    for action in actions:
        if isinstance(action, Prepare):
            state, _ = step(state, events.Prepared(action.version, action.cause), NOW)
    return state


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_serves_what_the_others_serve_and_not_what_they_have_rolled_back(kind: Kind) -> None:
    after = adopted(state_of(kind, previous=True, shadow=False), 3, 4, 5, 6, version=3)
    assert (after.kind, after.serving, after.previous, after.rejected) == (Kind.STABLE, 3, None, frozenset({5}))


@pytest.mark.parametrize("kind", [Kind.NOTHING, Kind.STABLE])
def test_without_the_version_of_the_others_the_newest_serves_that_is_not_rolled_back(kind: Kind) -> None:
    after = adopted(state_of(kind, previous=False, shadow=False), 3, 4, 5, version=2, pinned=1)
    assert (after.serving, after.pinned) == (4, 1), "the pinned version may return"


def test_a_pinned_version_comes_first() -> None:
    after = adopted(state_of(Kind.STABLE, previous=True, shadow=False), 3, 4, 5, 6, version=6, pinned=3)
    assert (after.serving, after.pinned) == (3, 3)


def test_a_rolled_back_version_serves_on_if_there_is_no_other() -> None:
    after = adopted(state_of(Kind.STABLE, previous=False, shadow=False), SERVING, version=4)
    assert (after.serving, after.rejected) == (SERVING, frozenset({SERVING}))


def test_a_rolled_back_version_is_no_previous_version() -> None:
    state = replace(state_of(Kind.STABLE, previous=False, shadow=False), serving=4, previous=SERVING)
    after = adopted(state, 4, SERVING, version=4)
    assert (after.serving, after.previous) == (4, None)


# Times


def test_a_complete_ramp_is_promoted_by_the_next_tick() -> None:
    state = replace(state_of(Kind.RAMPING, previous=True, shadow=True), available=ALL - {NEW})
    assert roles_of(step(state, events.Tick(), NOW + RAMP_S / 2 - 0.1)[0]) == roles_of(state)
    after, _ = step(state, events.Tick(), NOW + RAMP_S / 2)
    assert roles_of(after) == Roles(Kind.STABLE, INCOMING, None, SERVING, SHADOW)


def test_without_a_ramp_a_version_has_all_users_at_once_and_is_judged() -> None:
    state = replace(state_of(Kind.STABLE, previous=True, shadow=False), ramp_s=0.0)
    after, actions = step(state, events.Prepared(NEW, events.Tick()), NOW)
    assert roles_of(after) == Roles(Kind.STABLE, NEW, None, SERVING, None)
    assert [a.trusted for a in actions if hasattr(a, "trusted")] == [False]


@pytest.mark.parametrize("kind", [Kind.STABLE, Kind.RAMPING, Kind.CANARY])
def test_a_pinned_version_is_trusted(kind: Kind) -> None:
    _, actions = step(state_of(kind, previous=True, shadow=False), events.Prepared(NEW, _PIN), NOW)
    assert [a.trusted for a in actions if hasattr(a, "trusted")] == [True]


@pytest.mark.parametrize("kind", [Kind.RAMPING, Kind.CANARY])
def test_a_version_that_is_pinned_during_its_rollout_is_watched_on(kind: Kind) -> None:
    state, actions = step(state_of(kind, previous=True, shadow=False), events.Pin(INCOMING, 0), NOW)
    assert roles_of(state) == Roles(Kind.STABLE, INCOMING, None, SERVING, None)
    assert not any(isinstance(action, WatchVersion) for action in actions)
    state, _ = step(state, events.JudgedBad(INCOMING, "drift"), NOW)
    assert (state.serving, state.pinned) == (SERVING, None)


def test_a_canary_that_gets_another_share_is_judged_anew() -> None:
    state = state_of(Kind.CANARY, previous=False, shadow=False)
    state, actions = step(state, events.Canary(INCOMING, 0, events.CanaryOrder(INCOMING, 0.2)), NOW)
    assert WatchVersion(INCOMING, trusted=False) in actions
    assert state.incoming is not None
    assert state.incoming.users.share(NOW) == 0.2


def test_an_aborted_version_loses_its_scores() -> None:
    _, actions = step(state_of(Kind.RAMPING, previous=True, shadow=True), events.RollBack("asked"), NOW)
    assert DropCache(INCOMING) in actions
    assert WatchVersion(SERVING, trusted=True) in actions


def test_a_label_that_leads_back_to_the_serving_version_aborts_the_ramp() -> None:
    state = state_of(Kind.RAMPING, previous=True, shadow=True, by_label=True)
    assert roles_of(step(state, events.Tick(SERVING), NOW)[0]) == Roles(Kind.STABLE, SERVING, None, PREVIOUS, SHADOW)
    assert roles_of(step(state, events.Tick(None), NOW)[0]) == roles_of(state)


@pytest.mark.parametrize("kind", [Kind.RAMPING, Kind.CANARY])
def test_the_incoming_version_serves_at_once_where_the_serving_one_has_vanished(kind: Kind) -> None:
    state = replace(state_of(kind, previous=True, shadow=True), available=ALL - {SERVING, NEW})
    after, actions = step(state, events.Tick(), NOW)
    assert roles_of(after) == Roles(Kind.STABLE, INCOMING, None, None, SHADOW)
    assert not any(isinstance(action, WatchVersion) for action in actions), "it is judged as before"


# Races: the outcome of a preparation against the state as it is then


@pytest.mark.parametrize("revoking", [events.Unpin(), events.RollBack("asked")])
@pytest.mark.parametrize("order", [_PIN, _CANARY, _ADOPT])
def test_an_order_is_revoked_while_its_version_is_prepared(revoking: events.Event, order: events.Cause) -> None:
    state = state_of(Kind.STABLE, previous=True, shadow=False)
    state, actions = step(state, order, NOW)
    assert actions == (Prepare(NEW, order),)
    state, _ = step(state, revoking, NOW)
    with pytest.raises(PredictError, match=r"ABORTED: .*'ctr': an unpin or a rollback"):
        step(state, events.Prepared(NEW, order), NOW)


def test_a_previous_version_that_vanishes_and_returns_can_be_rolled_back_to() -> None:
    """A model server that restarts has only its latest version for a while."""
    state, _ = step(state_of(Kind.STABLE, previous=True, shadow=False), events.Available(ALL - {PREVIOUS}), NOW)
    with pytest.raises(TransitionError, match="no other version"):
        step(state, events.RollBack("asked"), NOW)
    assert roles_of(step(state, events.JudgedBad(SERVING, "drift"), NOW)[0]) == roles_of(state)
    state, _ = step(state, events.Available(ALL), NOW)
    state, actions = step(state, events.RollBack("asked"), NOW)
    assert roles_of(state) == Roles(Kind.STABLE, PREVIOUS, None, None, None)
    assert not any(isinstance(action, Prepare) for action in actions)


def test_a_bad_verdict_revokes_no_order() -> None:
    state, _ = step(state_of(Kind.RAMPING, previous=True, shadow=False), _PIN, NOW)
    state, _ = step(state, events.JudgedBad(INCOMING, "drift"), NOW)
    state, _ = step(state, events.Prepared(NEW, _PIN), NOW)
    assert (state.serving, state.pinned, state.rejected) == (NEW, NEW, frozenset({INCOMING}))


@pytest.mark.parametrize("order", [_PIN, _CANARY, _SHADOW])
def test_an_ordered_version_vanishes_while_it_is_prepared(order: events.Cause) -> None:
    state, _ = step(state_of(Kind.STABLE, previous=True, shadow=False), order, NOW)
    state, _ = step(state, events.Available(ALL - {NEW}), NOW)
    with pytest.raises(PredictError, match="NOT_FOUND: version 7 of 'ctr' is not AVAILABLE"):
        step(state, events.Prepared(NEW, order), NOW)


@pytest.mark.parametrize("kind", [Kind.NOTHING, Kind.STABLE, Kind.RAMPING, Kind.CANARY])
def test_the_wanted_version_vanishes_while_it_is_prepared(kind: Kind) -> None:
    state = state_of(kind, previous=True, shadow=False)
    state, _ = step(state, events.Available(ALL - {NEW}), NOW)
    after, actions = step(state, events.Prepared(NEW, events.Tick()), NOW)
    assert roles_of(after) == roles_of(state)
    assert [a.version for a in actions if isinstance(a, Prepare)] == (
        [INCOMING] if kind in ~Kind.RAMPING & ~Kind.CANARY else []
    )


def test_the_serving_version_vanishes_while_the_next_one_is_prepared() -> None:
    state = state_of(Kind.STABLE, previous=True, shadow=False)
    state, _ = step(state, events.Available(ALL - {SERVING}), NOW)
    after, _ = step(state, events.Prepared(NEW, events.Tick()), NOW)
    assert roles_of(after) == Roles(Kind.STABLE, NEW, None, None, None)


def test_an_unpin_while_the_pinned_version_is_prepared_again() -> None:
    """It had vanished; when it is prepared, it is not wanted any more."""
    state = replace(state_of(Kind.STABLE, previous=False, shadow=False), pinned=PREVIOUS, available=frozenset({4, 5}))
    state, actions = step(state, events.Tick(), NOW)
    assert actions == (Prepare(PREVIOUS, events.Tick()),)
    state, _ = step(state, events.Unpin(), NOW)
    after, _ = step(state, events.Prepared(PREVIOUS, events.Tick()), NOW)
    assert roles_of(after) == roles_of(state)


def test_a_canary_is_replaced_while_its_version_is_prepared() -> None:
    state = replace(state_of(Kind.STABLE, previous=False, shadow=False), canary=events.CanaryOrder(INCOMING, 0.2))
    after, _ = step(state, events.Prepared(NEW, _FOLLOW), NOW)
    assert roles_of(after) == roles_of(state)
