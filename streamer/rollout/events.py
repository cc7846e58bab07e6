"""The events of a model's versions, which are numbers here. Pure."""

from dataclasses import dataclass

RETRY_S = 30.0
LOADING_RETRY_S = 1.0

# Reports of the servers


@dataclass(frozen=True, slots=True)
class Available:
    """The servers have these versions and no others.

    Attributes:
        incomplete: those of `versions` that some servers lack.
    """

    versions: frozenset[int]
    incomplete: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Tick:
    """It is time to look for a better version.

    Attributes:
        labelled: the version that the label of `predictor.labels` leads to; None: nowhere, or there is no label.
    """

    labelled: int | None = None


@dataclass(frozen=True, slots=True)
class CanaryOrder:
    """A canary as an operator ordered it: a version or a label, and its share in [0, 1]."""

    asked: int | str
    share: float


@dataclass(frozen=True, slots=True)
class FollowCanary:
    """The ordered canary is this version now; None: its label leads nowhere."""

    order: CanaryOrder
    version: int | None


# Orders. `epoch`: that of the state when the operator gave the order.


@dataclass(frozen=True, slots=True)
class Pin:
    """Serve this version to all users until `Unpin`."""

    version: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Canary:
    """Serve this version to a share of the users until `Pin` or `Unpin`."""

    version: int
    epoch: int
    order: CanaryOrder


@dataclass(frozen=True, slots=True)
class Shadow:
    """Let this version score a share of the users as well; a share of 0 ends it."""

    version: int
    share: float


@dataclass(frozen=True, slots=True)
class Unpin:
    """End the pin and the canary, and accept rejected versions again."""


@dataclass(frozen=True, slots=True)
class RollBack:
    """Serve the version before the latest one to all users."""

    reason: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """Replace the orders of this process by those that the other processes have.

    Attributes:
        version: the version that serves there; None: unknown.
        epoch: as that of an order.
        rejected: the versions that were rolled back there.
    """

    version: int | None
    epoch: int
    pinned: int | None = None
    canary: CanaryOrder | None = None
    rejected: frozenset[int] = frozenset()


# Outcomes

Order = Pin | Canary | Shadow
Cause = Tick | FollowCanary | Order | Adopt
"""The events that may need a version that is not prepared."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A version is prepared. Its cause is applied again, to the state as it is now."""

    version: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Failed:
    """A version could not be prepared; if by its own fault, it waits for `retry_s`.

    `lacks_space`: it needs the memory of the previous version's table of ads.
    """

    version: int
    is_own_fault: bool
    lacks_space: bool = False
    retry_s: float = RETRY_S


@dataclass(frozen=True, slots=True)
class JudgedBad:
    """The guard judged a new version bad by its first calls."""

    version: int
    reason: str


Event = Available | Cause | Unpin | RollBack | Prepared | Failed | JudgedBad
