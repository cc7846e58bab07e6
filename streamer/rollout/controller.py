"""Executes the actions of one model's state machine, and enters their outcomes as events."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from streamer.errors import PredictError, SpecError
from streamer.metrics import Metrics
from streamer.prepared_version import PreparedVersion
from streamer.rollout import actions, events
from streamer.rollout.described import described
from streamer.rollout.effects import DropsVersions, Effects
from streamer.rollout.machine import step
from streamer.rollout.orders import ModelOrders
from streamer.rollout.preparation import Preparation, Preparer, gives_way, is_passed_over, lacks_space, retry_s
from streamer.rollout.state import State
from streamer.rollout.transitions import TransitionError
from streamer.rollout.version_guard import VersionGuard
from streamer.rollout.version_labels import ModelServers, VersionLabels
from streamer.settings import Settings
from streamer.types import F32, BidRequest, Header, ModelVersion

# Failures after which a version is not compared with what it was: they do not follow from a restart of its server.
_BUSY = frozenset({"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED", "CLOSED"})
# Failures of calls that may be the version's own fault. A server that is unreachable or busy says nothing about it.
_OWN_FAULT = frozenset({"INVALID_ARGUMENT", "FAILED_PRECONDITION", "INTERNAL", "INVALID_REPLY", "DEADLINE_EXCEEDED"})


@dataclass(slots=True, eq=False)
class ModelController:
    """The versions of one model: selects one for each record, and takes orders of operators.

    1. Only `_enter` changes the state, and it never awaits; the outcome of an await enters as an event.
    2. A version is in `_prepared` as long as it has a role.
    3. One version is prepared at a time, and orders are carried out in their sequence.
    """

    name: str
    servers: ModelServers
    preparer: Preparer
    settings: Settings
    cache: DropsVersions | None
    metrics: Metrics
    log: FilteringBoundLogger
    clock: Callable[[], float]
    _labels: VersionLabels = field(init=False)
    _guard: VersionGuard = field(init=False)
    _preparation: Preparation = field(init=False)
    _state: State = field(init=False)
    _prepared: dict[int, PreparedVersion] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _effects: Effects = field(init=False)

    def __post_init__(self) -> None:
        self._labels = VersionLabels(self.servers, self.name, self.log)
        self._guard = VersionGuard(self.settings.guard)
        self._effects = Effects(self.cache, self.metrics, self.log)
        self._preparation = Preparation(self.name, self.preparer, self.metrics, self.log)
        self._state = State(self.name, self._label is not None, self.settings.rollout.ramp_s)

    @property
    def _label(self) -> str | None:
        return self.settings.predictor.labels.get(self.name)

    # For records

    def serving_for(self, key: bytes | None) -> PreparedVersion:
        """The version that serves the user with this key now."""
        version = self._state.version_for(key, self.clock())
        assert version is not None, "records are read only when a version serves"
        return self._prepared[version]

    def shadow_for(self, key: bytes | None) -> PreparedVersion | None:
        """The shadow version, if it scores the requests of the user with this key."""
        shadow = self._state.shadow
        return self._prepared[shadow.version] if shadow and shadow.users.has(key, self.clock()) else None

    async def successor(self, version: ModelVersion, key: bytes | None, seconds: float) -> PreparedVersion | None:
        """Waits at most `seconds` for a version that serves the user instead of a vanished one."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.serving_for(key).version == version:
                    await self._effects.users_moved.wait()
        serving = self.serving_for(key)
        return serving if serving.version != version else None

    def encoded(self, value: bytes, headers: Sequence[Header], request: BidRequest, prepared: PreparedVersion) -> None:
        """Keeps a raw request that a version has encoded, to warm the next version with."""
        self.preparer.remember(value, headers)
        self._effects.coverage.offer(prepared, request)

    def scored(self, version: ModelVersion, ctr: F32) -> None:
        """A call returned scores, float32 [n]; a new version is judged by them."""
        if verdict := self._guard.scored(version, ctr):
            self._enter(events.JudgedBad(version.version, verdict))

    def check_known(self, version: ModelVersion) -> None:
        """Raises PredictError if another object has replaced the version and cannot be prepared."""
        if version.version in self._preparation.unknown:
            # By its code the guard does not judge the version by calls that were never made.
            raise PredictError("UNAVAILABLE", f"{version} was replaced by a version that cannot be prepared")

    def failed(self, version: ModelVersion, error: PredictError) -> None:
        """A call failed; a new version is judged by it if it may be its own fault."""
        if error.code not in _BUSY:
            self._preparation.suspect()
        if error.code in _OWN_FAULT and (verdict := self._guard.failed(version)):
            self._enter(events.JudgedBad(version.version, verdict))

    # For operators

    def describe(self) -> dict[str, object]:
        """The versions and their roles."""
        return described(self._state, self._label, self._preparation.failures, self.clock())

    async def pin(self, version: int) -> None:
        """Serves this version to all users at once, and no newer one, until `unpin`.

        Raises:
            PredictError: the servers cannot be asked, do not have the version, it cannot be prepared, or `unpin` or
                `roll_back` was ordered meanwhile.
        """
        await self._order(events.Pin(version, self._state.epoch))

    async def canary(self, version: int | str, share: float) -> None:
        """Serves this version to a share of the users, in [0, 1], until `pin` or `unpin`.

        With a label instead of a number, the share has the version that the label leads to at each poll.

        Raises:
            PredictError: as `pin`, or the label leads nowhere.
        """
        epoch = self._state.epoch
        number = version if isinstance(version, int) else await self.servers.labelled(self.name, version)
        await self._order(events.Canary(number, epoch, events.CanaryOrder(version, share)))

    async def shadow(self, version: int, share: float) -> None:
        """Lets a version score the requests of a share of the users, in [0, 1], as well; 0 ends it.

        Raises:
            PredictError: as `pin`.
        """
        await self._order(events.Shadow(version, share), look=share > 0)

    def unpin(self) -> None:
        """Ends the pin and the canary, and accepts rejected versions again."""
        self._enter(events.Unpin())

    def roll_back(self, reason: str) -> int:
        """Serves the version before the latest one to all users.

        The latest one does not return by itself.

        Returns:
            The version that serves now.

        Raises:
            LookupError: no other version has served before.
        """
        self._enter(events.RollBack(reason))
        assert self._state.serving is not None
        return self._state.serving

    async def adopt(self, orders: ModelOrders) -> None:
        """Takes over the orders of other processes, and serves the version that they lead to.

        A version that the servers do not have is left out; a pinned one serves when they have it again.

        Raises:
            PredictError: the servers cannot be asked, the version cannot be prepared, or another order came first.
        """
        canary, shadow = orders.canary, orders.shadow
        order = None if canary is None else events.CanaryOrder(canary.version, canary.share)
        epoch = self._state.epoch
        await self._order(events.Adopt(orders.serving, epoch, orders.pinned, order, orders.rolled_back))
        if shadow is not None and isinstance(shadow.version, int):
            try:
                await self.shadow(shadow.version, shadow.share)
            except PredictError as error:
                self.log.warning("shadow version not taken over", model=self.name, error=str(error))

    async def _order(self, order: events.Order | events.Adopt, *, look: bool = True) -> None:
        async with self._turn:
            if look:
                await self._look()
            try:
                await self._carry_out(order)
            except (SpecError, TransitionError) as error:
                detail = f"version {order.version} of {self.name!r}: {error}"
                raise PredictError("FAILED_PRECONDITION", detail) from error

    # For the poll loop

    async def refresh(self) -> None:
        """Looks for a better version, and starts its rollout.

        Raises:
            PredictError: the servers cannot be asked, or serve nothing.
        """
        await self._look()
        await self._renew()
        async with self._turn:
            labelled = None if self._label is None else await self._labels.version_of(self._label)
            await self._attempt(events.Tick(labelled))
            if (canary := self._state.canary) is not None:
                asked = canary.asked
                version = asked if isinstance(asked, int) else await self._labels.version_of(asked)
                await self._attempt(events.FollowCanary(canary, version))

    async def _look(self) -> None:
        """Asks the servers for their versions."""
        try:
            found = await self.servers.available(self.name)
        except PredictError:
            self._preparation.suspect()
            raise
        hidden = self._preparation.see(found.somewhere, self.clock())
        self._enter(events.Available(found.somewhere - hidden, found.somewhere - found.everywhere))

    async def _renew(self) -> None:
        """Prepares versions again whose numbers name other objects than before.

        If that is not possible, the number counts as vanished: another version serves, or each request gets priors.
        """
        state = self._state
        if not self._preparation.is_check_due(self.clock(), all_there=state.answering <= state.available):
            return
        for number in sorted(state.roles & state.available):
            async with self._turn:
                before = self._prepared.get(number)
                if before is None:
                    continue
                alone = self._state.available <= {number}
                try:
                    renewed = await self._preparation.renewed(before.version, self.clock(), alone=alone)
                except (PredictError, SpecError) as error:
                    if gives_way(error) and not alone:
                        self._enter(events.Failed(number, is_own_fault=True, retry_s=retry_s(error)))
                        self._enter(events.Available(self._state.available - {number}, self._state.incomplete))
                        self._effects.drop(before.version)
                    continue
                if renewed is not None and number in self._prepared:
                    self._prepared[number] = renewed
                    self._effects.drop(before.version)
                    if number == self._state.latest:
                        self._guard.watch(renewed.version, trusted=False)

    async def _attempt(self, cause: events.Cause) -> None:
        """Carries out an event of a poll. A failure is raised only while no version serves."""
        try:
            await self._carry_out(cause)
        except PredictError as error:
            if self._state.serving is None:
                raise self._preparation.told(error) from None
        if self._state.serving is None:
            raise self._preparation.no_version(self._labels.failures.get(self._label or ""))

    async def _carry_out(self, cause: events.Cause) -> None:
        """Enters an event, prepares the versions that it needs, and enters the outcomes.

        After a bad version the next best one follows, so that one bad version causes no outage. One whose calls hang,
        or whose ads are not loaded, counts as bad only then. An order names its version: it fails with it.
        """
        needed, bad = self._enter(cause), set[int]()
        while needed is not None and needed.version not in bad:
            try:
                prepared = await self._preparation.prepare(needed.version)
            except (PredictError, SpecError) as error:
                is_bad = is_passed_over(error, has_alternative=self._state.has_alternative(self.clock()))
                needs_space = lacks_space(error, self._state.previous, self._prepared)
                self._enter(events.Failed(needed.version, is_bad, needs_space, retry_s(error)))
                if isinstance(cause, events.Order) or not is_bad:
                    raise
                bad.add(needed.version)
                needed = self._enter(cause)
            else:
                needed = self._enter(events.Prepared(needed.version, cause), prepared)

    def _enter(self, event: events.Event, *prepared: PreparedVersion) -> actions.Prepare | None:
        """Enters an event and executes its actions; returns the preparation that it needs."""
        self._state, caused = step(self._state, event, self.clock())
        known = self._prepared | {new.version.version: new for new in prepared}
        self._prepared = {version: known[version] for version in self._state.roles}
        needed = None
        for action in caused:
            ready = known.get(action.version)
            version = ModelVersion(self.name, action.version) if ready is None else ready.version
            match action:
                case actions.Prepare():
                    needed = action
                case actions.WatchVersion(trusted=trusted):
                    self._guard.watch(version, trusted=trusted)
                case _:
                    self._effects.execute(action, version, ready)
        incoming = self._state.incoming
        self.metrics.incoming_share.labels(self.name).set(incoming.users.share(self.clock()) if incoming else 0.0)
        return needed
