"""The versions of one model by their roles, and the version that shall serve. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamer.rollout.events import CanaryOrder
from streamer.rollout.transitions import Kind
from streamer.rollout.user_share import UserShare


@dataclass(frozen=True, slots=True)
class SharedVersion:
    """A version, and the users that have it."""

    version: int
    users: UserShare


@dataclass(frozen=True, slots=True)
class State:
    """The versions of one model.

    1. A version gets a role (serving, incoming, previous, shadow) only when it is prepared.
    2. The incoming version is not the serving one.
    3. An incoming or shadow version that vanishes loses its role. A serving one keeps it until another version is
       prepared, a previous one until another version is previous: a server that restarts lacks it for a while.

    Attributes:
        by_label: whether the version that a label leads to shall serve, instead of the newest one.
        ramp_s: the time in which an incoming version gets all users, seconds.
        pinned: the version that an operator pinned; another one serves if it has vanished.
        canary: an operator's order; its version is incoming, except during a ramp or while it is not fit.
        rejected: versions that were rolled back.
        failed_until: versions that could not be prepared, and when they are retried.
        available: the versions that at least one server has. A version keeps its role as long as it is one of them.
        incomplete: those of them that some servers lack. None of these starts as the newest version.
        epoch: rises with `Unpin` and `RollBack`, which revoke each earlier `Pin` and `Canary` that still waits.
    """

    model: str
    by_label: bool = False
    ramp_s: float = 0.0
    serving: int | None = None
    incoming: SharedVersion | None = None
    previous: int | None = None
    shadow: SharedVersion | None = None
    pinned: int | None = None
    canary: CanaryOrder | None = None
    rejected: frozenset[int] = frozenset()
    failed_until: Mapping[int, float] = field(default_factory=dict)
    available: frozenset[int] = frozenset()
    incomplete: frozenset[int] = frozenset()
    epoch: int = 0

    @property
    def kind(self) -> Kind:
        """The column of the transition table."""
        if self.serving is None:
            return Kind.NOTHING
        if self.incoming is None:
            return Kind.STABLE
        return Kind.RAMPING if self.incoming.users.fixed is None else Kind.CANARY

    @property
    def latest(self) -> int | None:
        """The version that got users last: the incoming one, else the serving one."""
        return self.serving if self.incoming is None else self.incoming.version

    @property
    def fallback(self) -> int | None:
        """The version after a rollback; None if there is none, or the previous is unavailable."""
        previous = self.previous if self.previous in self.available else None
        return previous if self.incoming is None else self.serving

    @property
    def answering(self) -> frozenset[int]:
        """The versions that answer users."""
        return _known(self.serving, self.latest)

    @property
    def roles(self) -> frozenset[int]:
        """The versions that have a role."""
        return self.answering | _known(self.previous, None if self.shadow is None else self.shadow.version)

    def version_for(self, key: bytes | None, now: float) -> int | None:
        """The version that serves the user with this key."""
        incoming = self.incoming
        return incoming.version if incoming is not None and incoming.users.has(key, now) else self.serving

    def is_fit(self, version: int, now: float) -> bool:
        """Whether the version may start by itself: available, not rejected, not recently failed."""
        return version in self.able(now) - self.rejected

    def wanted(self, labelled: int | None, now: float) -> int | None:
        """The version that shall serve instead of the serving one; None: no change.

        1. The pinned version, if it is able.
        2. By label: the labelled version, older or newer. While the label leads nowhere, no first version serves. If it
           leads to a bad one, the first version is the newest one before that: nobody has approved a newer one yet.
        3. Else the newest one above the serving and all rejected ones that every server has.
        4. If the serving version has vanished: the newest one, even if the vanished one was pinned or the label
           leads nowhere; a rejected one only if there is no other.
        """
        able = self.able(now)
        if self.pinned in able:
            return self.pinned if self.pinned != self.serving else None
        fit = able - self.rejected
        due = labelled if labelled in fit else None
        if self.serving is not None and self.serving in self.available:
            if self.pinned is not None:
                return None
            if self.by_label:
                return due if due != self.serving else None
            complete = fit - (self.incomplete - self.answering)
            newer = (v for v in complete if v > max(self.rejected | {self.serving}))
            return max(newer, default=None)
        if self.by_label and (due is not None or self.serving is None):
            if labelled is None or labelled not in self.available - able:
                return due
            return self.newest(frozenset(v for v in fit if v < labelled))
        return self.newest(fit or able)

    def newest(self, versions: frozenset[int]) -> int | None:
        """The newest one that every server has; if there is none, the newest one."""
        return max(versions - self.incomplete or versions, default=None)

    def able(self, now: float) -> frozenset[int]:
        """The available versions of which no recent preparation failed."""
        return frozenset(v for v in self.available if self.failed_until.get(v, now) <= now)

    def has_alternative(self, now: float) -> bool:
        """Whether users have no available version, and more than one could serve them."""
        return self.serving not in self.available and len(self.able(now)) > 1


def _known(*versions: int | None) -> frozenset[int]:
    return frozenset(version for version in versions if version is not None)
