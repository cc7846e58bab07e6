"""The state machine of a model's versions: from a state and an event to the next one. Pure."""

from dataclasses import replace
from typing import Any

from streamer.errors import PredictError
from streamer.rollout import actions, events
from streamer.rollout.state import SharedVersion, State
from streamer.rollout.transitions import TRANSITIONS, Kind, TransitionError
from streamer.rollout.user_share import UserShare

_SHADOW_SEED = 1  # a shadow version and a canary have different users


def step(state: State, event: events.Event, now: float) -> tuple[State, tuple[actions.Action, ...]]:
    """The state after an event, and the actions that the event causes, in their order.

    Raises:
        TransitionError: the event is not possible in this state.
        PredictError: an operator's order cannot be carried out: its version is not available, or it was revoked.
    """
    cause = event.cause if isinstance(event, events.Prepared) else event
    allowed = TRANSITIONS[type(cause)][list(Kind).index(state.kind)]
    if not allowed:
        raise TransitionError(f"{type(cause).__name__} is not possible in state {state.kind.name}")
    change = _Change(state, now, state.roles | ({event.version} if isinstance(event, events.Prepared) else set()))
    change.apply(cause)
    if change.state.kind not in allowed:
        raise TransitionError(f"{cause}: no transition from {state.kind.name} to {change.state.kind.name}")
    return change.state, tuple(change.actions)


class _Change:
    """One step: the state and the actions so far. `ready`: versions that are prepared."""

    def __init__(self, state: State, now: float, ready: frozenset[int]) -> None:
        self.state = state
        self.actions: list[actions.Action] = []
        self._now = now
        self._ready = ready

    def apply(self, event: events.Event) -> None:
        """Applies one event."""
        state = self.state
        if isinstance(event, events.Order) and not self._is_possible(event):
            return
        match event:
            case events.Available(versions, incomplete):
                self._see(versions, incomplete)
            case events.Tick():
                self._tick(event)
            case events.FollowCanary():
                self._follow_canary(event)
            case events.Pin(version):
                self._set(pinned=version, canary=None, rejected=state.rejected - {version})
                self._promote(version)
            case events.Canary(version, _, order):
                self._set(canary=order)
                self._start_rollout(version, order.share)
            case events.Shadow(version, share):
                users = UserShare(self._now, 0.0, share, _SHADOW_SEED)
                self._set(shadow=SharedVersion(version, users) if share > 0 else None)
                self._log("info", "shadow scoring", version, share=share)
            case events.Adopt():
                self._adopt(event)
            case events.Unpin():
                self._set(pinned=None, canary=None, rejected=frozenset(), epoch=state.epoch + 1)
                self._set(incoming=None if state.kind is Kind.CANARY else state.incoming)
            case events.RollBack(reason):
                self._set(epoch=state.epoch + 1)
                self._roll_back(reason)
            case events.Failed():
                self._fail(event)
            case events.JudgedBad(version, reason) if version == state.latest:
                self._judged_bad(version, reason)

    def _fail(self, event: events.Failed) -> None:
        if event.is_own_fault:
            self._set(failed_until={**self.state.failed_until, event.version: self._now + event.retry_s})
        if event.lacks_space and self.state.previous is not None:
            self._log("warning", "previous version given up, a new table of ads needs its memory", self.state.previous)
            self._set(previous=None)

    # Changes of roles

    def _promote(self, version: int, *, keep_previous: bool = True) -> None:
        """Gives a version all users, and ends a rollout."""
        before = self.state.serving
        self._set(serving=version, incoming=None)
        if version != before:
            failed_until = {v: until for v, until in self.state.failed_until.items() if v != version}
            can_return = keep_previous and before in self.state.available
            self._set(previous=before if can_return else None, failed_until=failed_until)
            self.actions.append(actions.Promote(version, before))

    def _start_rollout(self, version: int, share: float | None = None) -> None:
        """Gives a version a fixed share of the users, or a growing one from the share that it has."""
        incoming, ramp_s = self.state.incoming, self.state.ramp_s
        if version == self.state.serving:
            self._set(incoming=None)
            return
        has = incoming.users.share(self._now) if incoming is not None and incoming.version == version else 0.0
        users = UserShare(self._now - has * ramp_s, ramp_s, share)
        self._set(incoming=SharedVersion(version, users))
        self._log("info", "rollout starts", version, ramp_s=ramp_s, share=share)
        if users.share(self._now) >= 1.0:
            self._promote(version)

    def _roll_back(self, reason: str) -> None:
        """Rejects the latest version; the one before it serves all users."""
        state, bad, good = self.state, self.state.latest, self.state.fallback
        if bad is None or good is None:
            raise TransitionError("no other version that is available has served before this one")
        self._set(rejected=state.rejected | {bad}, pinned=None if state.pinned == bad else state.pinned)
        self._log("error", "version rolled back", bad, to=f"{state.model}/{good}", reason=reason)
        self.actions.append(actions.CountRollBack(bad))
        self._promote(good, keep_previous=False)

    def _judged_bad(self, version: int, reason: str) -> None:
        """Rolls the latest version back, if there is another one."""
        if self.state.fallback is None:
            self._log("error", "version is bad, but there is none to roll back to", version, reason=reason)
        else:
            self._roll_back(reason)

    def _set(self, **fields: Any) -> None:
        """Changes the state; watches the latest version; drops scores of versions without users."""
        old, new = self.state, replace(self.state, **fields)
        self.state = new
        self.actions += [actions.DropCache(version) for version in sorted(old.answering - new.answering)]
        if new.latest is not None and (new.latest != old.latest or new.incoming not in (old.incoming, None)):
            self.actions.append(actions.WatchVersion(new.latest, trusted=new.incoming is None))

    # Decisions

    def _see(self, versions: frozenset[int], incomplete: frozenset[int]) -> None:
        """Takes their roles from an incoming and a shadow version that have vanished."""
        state = self.state
        self._set(available=versions, incomplete=incomplete)
        if state.shadow is not None and state.shadow.version not in versions:
            self._set(shadow=None)
            self._log("warning", "the shadow version has vanished", state.shadow.version)
        if state.incoming is not None and state.incoming.version not in versions:
            self._set(incoming=None)
            self._log("warning", "the incoming version has vanished", state.incoming.version)

    def _tick(self, cause: events.Tick) -> None:
        """Ends a complete ramp, and gives users to the wanted version."""
        incoming = self.state.incoming
        if incoming is not None and incoming.users.share(self._now) >= 1.0:
            self._promote(incoming.version)
        state = self.state
        version, has_vanished = state.wanted(cause.labelled, self._now), state.serving not in state.available
        if version is None:
            # The label leads back to the serving version while users move to another one.
            if state.kind is Kind.RAMPING and cause.labelled == state.serving:
                self._set(incoming=None)
            return
        # A ramp goes on to its version. A canary ends only for the version that a label leads to.
        goes_on = version == state.latest if state.kind is Kind.RAMPING else not state.by_label
        if (state.incoming is not None and goes_on and not has_vanished) or not self._is_ready(version, cause):
            return
        if state.serving is None or has_vanished or (state.by_label and version < state.serving):
            self._promote(version)  # an older labelled version is a rollback: at once, and not judged
        else:
            self._start_rollout(version)

    def _follow_canary(self, cause: events.FollowCanary) -> None:
        """Gives the canary its share, except during a ramp."""
        state, version = self.state, cause.version
        is_current = cause.order == state.canary and state.kind is not Kind.RAMPING
        if version is None or not is_current or (state.incoming is not None and version == state.incoming.version):
            return
        if version == state.serving or (state.is_fit(version, self._now) and self._is_ready(version, cause)):
            self._start_rollout(version, cause.order.share)

    def _adopt(self, cause: events.Adopt) -> None:
        """Takes orders over, and gives all users to the version that the orders lead to.

        That is the first possible one of: the pinned version, the one that serves in the other processes, the serving
        version, the newest one; none of them is rejected or bad. Without one the serving version stays.
        """
        state = self.state
        if cause.epoch != state.epoch:
            raise PredictError("ABORTED", f"{state.model!r}: an unpin or a rollback came first")
        allowed = state.able(self._now) - cause.rejected
        if not allowed and state.available - cause.rejected:
            raise PredictError("FAILED_PRECONDITION", f"{state.model!r}: each version that is not rolled back is bad")
        choice = (cause.pinned, cause.version, state.serving, state.newest(allowed))
        version = next((v for v in choice if v in allowed), state.serving)
        if version is not None and not self._is_ready(version, cause):
            return
        self._set(pinned=cause.pinned, canary=cause.canary, rejected=cause.rejected)
        if version is not None:
            self._promote(version, keep_previous=False)
            self._log("info", "orders taken over", version, pinned=cause.pinned, rolled_back=sorted(cause.rejected))
        if self.state.previous in cause.rejected:
            self._set(previous=None)

    def _is_possible(self, order: events.Order) -> bool:
        """Whether the version of an order is prepared. Raises PredictError to reject the order."""
        state, subject = self.state, f"version {order.version} of {self.state.model!r}"
        if isinstance(order, events.Shadow):
            if order.share <= 0:
                return True
        elif order.epoch != state.epoch:
            raise PredictError("ABORTED", f"{subject}: an unpin or a rollback has revoked the order")
        if order.version not in state.available:
            raise PredictError("NOT_FOUND", f"{subject} is not AVAILABLE")
        return self._is_ready(order.version, order)

    def _is_ready(self, version: int, cause: events.Cause) -> bool:
        """Whether the version is prepared; if not, it will be."""
        if version not in self._ready:
            self.actions.append(actions.Prepare(version, cause))
        return version in self._ready

    def _log(self, level: actions.Level, message: str, version: int, **details: object) -> None:
        self.actions.append(actions.Log(level, message, version, details))
