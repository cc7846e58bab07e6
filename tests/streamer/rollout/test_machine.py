"""The invariants of the state machine, after random events in any sequence."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamer.errors import PredictError
from streamer.rollout import actions, events
from streamer.rollout.machine import step
from streamer.rollout.state import State
from streamer.rollout.transitions import TRANSITIONS, Kind, TransitionError

_VERSIONS = st.integers(1, 6)
_LABELLED = st.none() | _VERSIONS
_SHARES = st.sampled_from([0.0, 0.3, 1.0])


class Rollouts(RuleBasedStateMachine):
    """Enters events as the controller does, but preparations overlap and end in any sequence.

    Attributes:
        prepared: versions that a controller keeps, because they have a role.
        pending: preparations that have not ended.
        may_return: rejected versions that an operator has ordered since.
        watched: the version that the guard counts, and whether it is trusted.
    """

    @initialize(
        by_label=st.booleans(),
        ramp_s=st.sampled_from([0.0, 10.0]),
        is_serving=st.sampled_from([True, True, True, False]),
    )
    def start(self, *, by_label: bool, ramp_s: float, is_serving: bool) -> None:
        self.now = 0.0
        self.state = State("ctr", by_label, ramp_s)
        self.prepared: frozenset[int] = frozenset()
        self.pending: list[actions.Prepare] = []
        self.may_return: set[int] = set()
        self.watched: tuple[int, bool] | None = None
        if is_serving:
            self.enter(events.Available(frozenset({1, 2})))
            self.enter_and_prepare(events.Tick(2))

    def enter(self, event: events.Event) -> None:
        """One step, with what must hold for each."""
        before = self.state
        cause = event.cause if isinstance(event, events.Prepared) else event
        allowed = TRANSITIONS[type(cause)][tuple(Kind).index(before.kind)]
        try:
            after, caused = step(before, event, self.now)
        except TransitionError:
            assert not allowed or (isinstance(event, events.RollBack) and before.fallback is None)
            return
        except PredictError:
            assert isinstance(cause, events.Order | events.Adopt)
            return
        assert after.kind in allowed
        if isinstance(cause, events.Pin | events.Canary | events.Adopt):
            assert cause.epoch == before.epoch, "a revoked order was carried out"
        if isinstance(event, events.Prepared):
            self.prepared |= {event.version}
        assert after.roles <= self.prepared, "a version has a role, but it was not prepared"
        self.prepared = after.roles
        if isinstance(cause, events.RollBack | events.JudgedBad) and after.serving != before.serving:
            assert after.serving in after.available, "a rollback leads to a version that no server has"
        self.check_pin(before, cause, after)
        self.check_rejected(before, cause, after)
        self.perform(before, after, caused)
        self.state = after

    def enter_and_prepare(self, event: events.Event) -> None:
        """A step whose preparation succeeds at once."""
        pending = len(self.pending)
        self.enter(event)
        if len(self.pending) > pending:
            needed = self.pending.pop()
            self.enter(events.Prepared(needed.version, needed.cause))

    def check_pin(self, before: State, event: events.Event, after: State) -> None:
        """A pin ends only by an order or a rollback of its version, not by a newer version."""
        if after.pinned != before.pinned:
            rolled_back = before.pinned in after.rejected
            assert isinstance(event, events.Pin | events.Unpin | events.Adopt) or rolled_back
        pin_serves = before.serving == before.pinned and before.serving in before.available
        if isinstance(event, events.Tick) and before.pinned is not None and pin_serves and before.kind is Kind.STABLE:
            assert (after.serving, after.incoming) == (before.serving, None)

    def check_rejected(self, before: State, event: events.Event, after: State) -> None:
        """A rejected version gets users by an operator's order only, unless nothing else can serve."""
        if isinstance(event, events.Order):
            self.may_return.add(event.version)
        self.may_return -= after.rejected - before.rejected
        by_itself = isinstance(event, events.Tick | events.FollowCanary | events.Available)
        returned = (after.answering - before.answering) & before.rejected - self.may_return
        if by_itself and returned:
            others = {v for v in before.available - before.rejected if before.failed_until.get(v, 0.0) <= self.now}
            assert before.serving not in before.available
            assert not others

    def perform(self, before: State, after: State, caused: tuple[actions.Action, ...]) -> None:
        """Performs the actions; they tell the whole difference of the two states."""
        dropped, serving = set(), before.serving
        for action in caused:
            match action:
                case actions.Prepare(version):
                    assert version in before.available
                    assert version not in before.roles
                    self.pending.append(action)
                case actions.Promote(version, replaced):
                    assert replaced == serving
                    serving = version
                case actions.WatchVersion(version, trusted):
                    self.watched = version, trusted
                case actions.DropCache(version):
                    dropped.add(version)
        assert serving == after.serving
        assert before.answering - after.answering <= dropped
        assert not dropped & after.answering
        if after.latest is not None:
            assert self.watched is not None
            assert self.watched[0] == after.latest
        if after.incoming is not None:
            assert self.watched == (after.incoming.version, False), "an incoming version is judged"

    @rule(versions=st.frozensets(_VERSIONS, min_size=2), lacking=st.frozensets(_VERSIONS))
    def the_servers_have(self, versions: frozenset[int], lacking: frozenset[int]) -> None:
        self.enter(events.Available(versions, versions & lacking))

    @rule()
    def a_newer_version_is_rolled_out(self) -> None:
        newer = max(self.state.available | self.state.rejected, default=0) % 6 + 1
        self.enter(events.Available(self.state.available | {newer}))
        self.enter_and_prepare(events.Tick(newer))

    @precondition(lambda self: self.state.serving is not None)
    @rule(version=_VERSIONS, share=st.sampled_from([0.0, 0.3]))
    def a_canary_is_ordered(self, version: int, share: float) -> None:
        self.enter(events.Available(self.state.available | {version}))
        self.enter_and_prepare(events.Canary(version, self.state.epoch, events.CanaryOrder(version, share)))

    @rule(role=st.sampled_from(["serving", "latest", "previous"]))
    def a_version_vanishes(self, role: str) -> None:
        self.enter(events.Available(self.state.available - {getattr(self.state, role)}))

    @rule(labelled=_LABELLED, at_once=st.booleans())
    def tick(self, labelled: int | None, *, at_once: bool) -> None:
        (self.enter_and_prepare if at_once else self.enter)(events.Tick(labelled))

    @rule(seconds=st.sampled_from([5.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.state.canary is not None)
    @rule(version=_LABELLED, at_once=st.booleans())
    def follow_canary(self, version: int | None, *, at_once: bool) -> None:
        assert self.state.canary is not None
        asked = self.state.canary.asked
        event = events.FollowCanary(self.state.canary, asked if isinstance(asked, int) else version)
        (self.enter_and_prepare if at_once else self.enter)(event)

    @rule(version=_VERSIONS, share=_SHARES, data=st.data(), at_once=st.booleans())
    def order(self, version: int, share: float, data: st.DataObject, *, at_once: bool) -> None:
        epoch = self.state.epoch
        orders: list[events.Event] = [
            events.Pin(version, epoch),
            events.Canary(version, epoch, events.CanaryOrder(version, share)),
            events.Canary(version, epoch, events.CanaryOrder("canary", share)),
            events.Shadow(version, share),
        ]
        order = data.draw(st.sampled_from(orders))
        (self.enter_and_prepare if at_once else self.enter)(order)

    @rule(version=_LABELLED, pinned=_LABELLED, rejected=st.frozensets(_VERSIONS), at_once=st.booleans())
    def orders_are_taken_over(
        self, version: int | None, pinned: int | None, rejected: frozenset[int], *, at_once: bool
    ) -> None:
        event = events.Adopt(version, self.state.epoch, pinned, None, rejected - {pinned})
        (self.enter_and_prepare if at_once else self.enter)(event)

    @precondition(lambda self: self.state.pinned or self.state.canary or self.pending)
    @rule()
    def unpin(self) -> None:
        self.enter(events.Unpin())
        assert (self.state.pinned, self.state.canary, self.state.rejected) == (None, None, frozenset())

    @precondition(lambda self: self.state.fallback is not None)
    @rule()
    def roll_back(self) -> None:
        self.enter(events.RollBack("asked"))

    @precondition(lambda self: self.state.latest is not None)
    @rule(role=st.sampled_from(["serving", "latest"]))
    def a_version_is_judged_bad(self, role: str) -> None:
        self.enter(events.JudgedBad(getattr(self.state, role), "drift"))

    @precondition(lambda self: self.pending)
    @rule(data=st.data(), outcome=st.sampled_from(["prepared", "prepared", "own fault", "servers' fault"]))
    def a_preparation_ends(self, data: st.DataObject, outcome: str) -> None:
        ended = data.draw(st.sampled_from(self.pending))
        self.pending.remove(ended)
        if outcome == "prepared":
            self.enter(events.Prepared(ended.version, ended.cause))
        else:
            self.enter(events.Failed(ended.version, outcome == "own fault"))

    @invariant()
    def at_most_one_version_is_incoming(self) -> None:
        incoming = self.state.incoming
        assert incoming is None or incoming.version != self.state.serving
        assert (self.state.kind is Kind.NOTHING) == (self.state.serving is None)
        if self.state.kind is Kind.NOTHING:
            assert not self.state.roles

    @invariant()
    def a_vanished_version_is_neither_incoming_nor_shadow(self) -> None:
        """The serving version stays until another is prepared, the previous until it is replaced."""
        state = self.state
        assert state.roles - state.available <= {state.serving, state.previous}
        assert state.previous is None or state.previous != state.serving


TestRollouts = Rollouts.TestCase
TestRollouts.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
