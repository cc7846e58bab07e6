"""One model: asks the server for its versions, has the next one prepared, and moves users over to it."""

import asyncio
from collections.abc import Callable, Sequence

from structlog.typing import FilteringBoundLogger

from streamer.errors import PredictError, SpecError
from streamer.metrics import Metrics
from streamer.prepared_version import PreparedVersion
from streamer.rollout.user_share import Rollout
from streamer.rollout.version_guard import Guard
from streamer.rollout.version_labels import Labels
from streamer.rollout.versions import Versions
from streamer.scoring.cache import ScoreCache
from streamer.serving.preparation import ModelServers, Preparation
from streamer.settings import Settings
from streamer.tasks import set_within
from streamer.types import F32, Header, ModelVersion

_SERVERS_FAULT = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED"})
# Other users than those of a canary.
_SHADOW_SEED = 1
# What a version may be to blame for; a server that is gone or full is another matter.
_OWN_FAULT = frozenset({"INVALID_ARGUMENT", "FAILED_PRECONDITION", "INTERNAL", "INVALID_REPLY", "DEADLINE_EXCEEDED"})


class Model:
    """Holds what serves now, and what is about to.

    Invariants: (1) a request keeps one `PreparedVersion` from its decoding to its answer; (2) whatever serves has been
    prepared; (3) at most one version is incoming, and what it is compared with stays ready until it has all users.
    """

    def __init__(
        self,
        name: str,
        servers: ModelServers,
        settings: Settings,
        cache: ScoreCache | None,
        *,
        metrics: Metrics,
        log: FilteringBoundLogger,
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self._servers = servers
        self._settings = settings
        self._cache = cache
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._label = settings.predictor.labels.get(name)
        self._labels = Labels(servers, name, log)
        self._versions = Versions(by_label=self._label is not None)
        self._preparation = Preparation(servers, settings)
        self._guard = Guard(settings.guard)
        self._changing = asyncio.Lock()
        self._serving: PreparedVersion | None = None
        self._incoming: tuple[PreparedVersion, Rollout] | None = None
        self._previous: PreparedVersion | None = None
        self._canary: tuple[int | str, float] | None = None  # a version or a label, and the share that it shall have
        self._shadow: tuple[PreparedVersion, Rollout] | None = None
        self._taken = asyncio.Event()  # set, and replaced, when a version gets all users

    @property
    def ready(self) -> bool:
        """Whether requests can be scored."""
        return self._serving is not None

    def serving_for(self, key: bytes | None) -> PreparedVersion:
        """What serves the user with this key, now."""
        assert self._serving is not None, "records are read only when a model serves"
        if self._incoming is not None and self._incoming[1].has(key, self._clock()):
            return self._incoming[0]
        return self._serving

    def shadow_for(self, key: bytes | None) -> PreparedVersion | None:
        """What scores the requests of the user with this key too, for nobody but the readers of the shadow topic."""
        if self._shadow is None or not self._shadow[1].has(key, self._clock()):
            return None
        return self._shadow[0]

    async def successor(self, version: ModelVersion, key: bytes | None, seconds: float) -> PreparedVersion | None:
        """What serves the user with this key instead of a version that is gone; None if nothing does in time."""
        serving = self.serving_for(key)
        if serving.version == version:
            if not await set_within(self._taken, seconds):
                return None
            serving = self.serving_for(key)
        return serving if serving.version != version else None

    def describe(self) -> dict[str, object]:
        """What serves, for an operator."""
        incoming = None
        if self._incoming is not None:
            serving, rollout = self._incoming
            incoming = {"version": serving.version.version, "share": round(rollout.share(self._clock()), 4)}
        return {
            "model": self.name,
            "label": self._label,
            "serving": self._serving.version.version if self._serving else None,
            "incoming": incoming,
            "previous": self._previous.version.version if self._previous else None,
            "canary": None if self._canary is None else {"version": self._canary[0], "share": self._canary[1]},
            "shadow": None
            if self._shadow is None
            else {"version": self._shadow[0].version.version, "share": self._shadow[1].fixed},
            "pinned": self._versions.held,
            "rolled_back": sorted(self._versions.rejected),
        }

    async def pin(self, version: int) -> None:
        """Serves this version to everyone at once, and no newer one, until `unpin`.

        Raises:
            PredictError: the server cannot be asked, has not got it, or it cannot be prepared.
        """
        async with self._changing:
            serving = await self._prepared(version)
            self._versions.hold(version)
            self._canary = None
            self._take(serving)

    async def canary(self, version: int | str, share: float) -> None:
        """Serves this version to a fixed share of the users, in [0, 1], until `pin` or `unpin`.

        A label instead of a number is followed: the share has whatever version the label leads to.

        Raises:
            PredictError: as `pin` does, or no version has this label.
        """
        async with self._changing:
            number = version if isinstance(version, int) else await self._servers.labelled(self.name, version)
            serving = await self._prepared(number)
            self._canary = version, share
            self._receive(serving, Rollout(self._clock(), 0.0, fixed=share))

    async def shadow(self, version: int, share: float) -> None:
        """Has this version score the requests of a fixed share of the users too, in [0, 1]; 0 ends it.

        Raises:
            PredictError: as `pin` does.
        """
        async with self._changing:
            self._shadow = None
            if share > 0:
                serving = await self._prepared(version)
                self._shadow = serving, Rollout(self._clock(), 0.0, fixed=share, seed=_SHADOW_SEED)
                self._log.info("a version scores in the shadow", model=str(serving.version), share=share)

    def unpin(self) -> None:
        """Serves the newest version (or the labelled one) again, ends a canary; gives what was rolled back a chance."""
        self._versions.release()
        self._canary = None
        if self._incoming is not None and self._incoming[1].fixed is not None:
            self._send_back()

    def roll_back(self, reason: str) -> int:
        """Serves the version before the newest one to everyone, at once; the newest does not come back by itself.

        Returns:
            The version that serves now.

        Raises:
            LookupError: there was no other version before.
        """
        bad = self._incoming[0] if self._incoming is not None else self._serving
        good = self._serving if self._incoming is not None else self._previous
        if bad is None or good is None:
            raise LookupError("no other version has served before this one")
        self._log.error("version rolled back", model=str(bad.version), to=str(good.version), reason=reason)
        self._metrics.rollbacks.labels(self.name).inc()
        self._versions.reject(bad.version.version)
        if self._incoming is not None:
            self._send_back()
        else:
            self._take(good)
            self._previous = None
        return good.version.version

    def scored(self, version: ModelVersion, ctr: F32) -> None:
        """A call of a version came back; a new one is judged by it."""
        self._judge(self._guard.scored(version, ctr))

    def failed(self, version: ModelVersion, error: PredictError) -> None:
        """A call of a version failed; a new one is judged by it where it may be its own fault."""
        if error.code in _OWN_FAULT:
            self._judge(self._guard.failed(version))

    def remember(self, value: bytes, headers: Sequence[Header]) -> None:
        """Keeps a request, raw, for warming the next version."""
        self._preparation.remember(value, headers)

    async def refresh(self) -> None:
        """Looks for a better version and begins to move users over to it when it is ready.

        Raises:
            PredictError: the server cannot be asked, or serves nothing.
        """
        async with self._changing:
            await self._refresh()

    async def _refresh(self) -> None:
        available = await self._servers.available(self.name)
        labelled = None if self._label is None else await self._labels.version_of(self._label)
        if self._shadow is not None and self._shadow[0].version.version not in available:
            self._log.warning("the version in the shadow is gone", model=str(self._shadow[0].version))
            self._shadow = None
        incoming = self._incoming
        if incoming is not None and incoming[0].version.version not in available:
            self._log.warning("the incoming version is gone", model=str(incoming[0].version))
            self._send_back()
        elif incoming is not None and incoming[1].share(self._clock()) >= 1.0:
            self._take(incoming[0])
        elif incoming is not None:
            self._metrics.incoming_share.labels(self.name).set(incoming[1].share(self._clock()))
        await self._move(available, labelled)
        await self._follow_canary(available)

    async def _move(self, available: frozenset[int], labelled: int | None) -> None:
        """Begins to move users to the version that shall serve, if it is another one."""
        wanted = self._versions.wanted(available, self._clock(), labelled)
        gone = self._versions.pinned is not None and self._versions.pinned not in available
        if wanted is None:
            if self._serving is None:
                failure = self._labels.failure(self._label) if self._label else None
                raise PredictError("UNAVAILABLE", failure or f"no version of {self.name!r} is AVAILABLE")
            # The label is back at what serves, while users were on their way to where it led before.
            if self._moving and labelled is not None and labelled == self._versions.pinned:
                self._send_back()
            return
        if self._incoming is not None and not gone and self._is_settled(wanted):
            return
        serving = await self._made_ready(wanted)
        if serving is None:
            return
        if self._serving is None or gone:
            self._take(serving)
            self._previous = None  # nothing to go back to
        elif self._versions.is_way_back(wanted):
            self._take(serving)
        else:
            self._receive(serving, self._ramp(serving))

    async def _follow_canary(self, available: frozenset[int]) -> None:
        """Gives the canary its share where its label leads elsewhere now, or where another version had to go first."""
        canary = self._canary
        if canary is None or self._moving:
            return
        asked, share = canary
        number = asked if isinstance(asked, int) else await self._labels.version_of(asked)
        incoming = self._incoming[0].version.version if self._incoming is not None else None
        if number is None or number == incoming:
            return
        if number == self._versions.pinned:
            if incoming is not None:
                self._send_back()
            return
        if number not in available or not self._versions.is_fit(number, self._clock()):
            return
        serving = await self._made_ready(number)
        # Meanwhile an operator may have ended it.
        if serving is not None and self._canary == canary:
            self._receive(serving, Rollout(self._clock(), 0.0, fixed=share))

    async def _made_ready(self, number: int) -> PreparedVersion | None:
        """The version, prepared; None where it cannot be and another one serves."""
        version = ModelVersion(self.name, number)
        try:
            # What is ready already is not made ready again while requests wait for it.
            return self._known(number) or await self._preparation.prepare(version)
        except (PredictError, SpecError) as error:
            # A server that is busy or away says nothing of the version: it is tried again with the next look.
            if not isinstance(error, PredictError) or error.code not in _SERVERS_FAULT:
                self._versions.refuse(number, self._clock())
            self._log.error("version not taken", model=str(version), error=str(error))
            if self._serving is None:
                raise
            return None

    @property
    def _moving(self) -> bool:
        """Whether users are on their way to another version; a canary's stay where they are."""
        return self._incoming is not None and self._incoming[1].fixed is None

    def _is_settled(self, wanted: int) -> bool:
        """Whether the version that is wanted is on its way, or has to wait for the end of a canary (no label does)."""
        assert self._incoming is not None
        return self._incoming[0].version.version == wanted if self._moving else self._label is None

    def _ramp(self, serving: PreparedVersion) -> Rollout:
        """From nobody to everybody; what has been the canary goes on from the users that it has."""
        ramp_s = self._settings.rollout.ramp_s
        share = 0.0
        if self._incoming is not None and self._incoming[0].version == serving.version:
            share = self._incoming[1].share(self._clock())
        return Rollout(self._clock() - share * ramp_s, ramp_s)

    async def _prepared(self, version: int) -> PreparedVersion:
        """A version that an operator asks for."""
        name = self.name
        if version not in await self._servers.available(name):
            raise PredictError("NOT_FOUND", f"version {version} of {name!r} is not AVAILABLE")
        try:
            return self._known(version) or await self._preparation.prepare(ModelVersion(name, version))
        except SpecError as error:
            raise PredictError("FAILED_PRECONDITION", f"version {version} of {name!r}: {error}") from error

    def _known(self, version: int) -> PreparedVersion | None:
        """A version that is ready."""
        ready = (self._serving, self._previous, self._incoming[0] if self._incoming else None)
        return next((known for known in ready if known is not None and known.version.version == version), None)

    def _judge(self, verdict: str | None) -> None:
        if verdict is None:
            return
        if self._previous is None and self._incoming is None:
            self._log.error("version is not well, and there is none to go back to", reason=verdict)
        else:
            self.roll_back(verdict)

    def _receive(self, serving: PreparedVersion, rollout: Rollout) -> None:
        """A version begins to get users; it is judged from its first call on."""
        if self._incoming is not None and self._incoming[0].version != serving.version:
            self._send_back()
        self._guard.watch(serving.version, trusted=not self._settings.guard.watched_calls)
        self._incoming = (serving, rollout)
        self._log.info("users move", to=str(serving.version), ramp_s=rollout.ramp_s, share=rollout.fixed)
        if rollout.share(self._clock()) >= 1.0:
            self._take(serving)

    def _send_back(self) -> None:
        """The incoming version loses its users."""
        assert self._incoming is not None
        serving, _ = self._incoming
        self._incoming = None
        self._metrics.incoming_share.labels(self.name).set(0.0)
        if self._cache is not None:
            self._cache.drop(serving.version)
        if self._serving is not None:
            self._guard.watch(self._serving.version, trusted=True)

    def _take(self, serving: PreparedVersion) -> None:
        """A version gets all users. One that did not come in step by step is trusted."""
        before, incoming = self._serving, self._incoming
        if before is not None and before.version == serving.version:
            if incoming is not None:
                self._send_back()
            return
        if incoming is None or incoming[0].version != serving.version:
            self._guard.watch(serving.version, trusted=True)
        self._incoming = None
        self._metrics.incoming_share.labels(self.name).set(0.0)
        self._previous, self._serving = before, serving
        self._versions.adopt(serving.version.version)
        self._taken.set()
        self._taken = asyncio.Event()
        self._metrics.model_version.labels(self.name).set(serving.version.version)
        if before is not None:
            self._metrics.version_switches.labels(self.name).inc()
            if self._cache is not None:
                self._cache.drop(before.version)
        spec = serving.encoder.spec
        self._log.info(
            "model serves",
            model=str(serving.version),
            spec=spec.name,
            spec_hash=spec.hash,
            before=str(before.version) if before else None,
        )
