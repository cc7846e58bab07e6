"""Events of a fleet of workers, and the actions that answer them. Pure."""

from dataclasses import dataclass
from typing import Literal

from streamer.types import Partition

Partitions = frozenset[Partition]


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has prepared its model and its connections."""

    number: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A worker has executed an `Assign`, or a part of it. A later release may have come first.

    Attributes:
        partitions: it reads these.
        lost: it does not read these, because their opening failed for good.
        failing: it could not open these, and tries again.
    """

    number: int
    partitions: Partitions
    lost: Partitions = frozenset()
    failing: Partitions = frozenset()


@dataclass(frozen=True, slots=True)
class Released:
    """A worker has committed its records of these partitions, and reads them no more.

    Attributes:
        unanswered: records that it did not answer in time; their next worker reads them again.
    """

    number: int
    partitions: Partitions
    unanswered: int = 0


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker is alive.

    Attributes:
        suspects: partitions with deaths at their position, with the number of deaths; isolated ones are among them.
    """

    number: int
    suspects: tuple[tuple[Partition, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """The process of a worker has been reaped, and its last commits have been processed."""

    number: int
    status: int


@dataclass(frozen=True, slots=True)
class Assigned:
    """The group assigns exactly these partitions to this machine."""

    partitions: Partitions


@dataclass(frozen=True, slots=True)
class Revoked:
    """The group takes all partitions away; it waits until the workers have released them."""


@dataclass(frozen=True, slots=True)
class Reload:
    """Every process is to be replaced by one with the present settings and program."""


@dataclass(frozen=True, slots=True)
class Stop:
    """All workers are to drain and end."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


WorkerEvent = Ready | Opened | Released | Beat | Ended
Event = WorkerEvent | Assigned | Revoked | Reload | Stop | Tick


@dataclass(frozen=True, slots=True)
class Start:
    """Start the process of a worker."""

    number: int


@dataclass(frozen=True, slots=True)
class Assign:
    """Tell a worker to open partitions.

    Attributes:
        place: 0 for the first active worker; a core can be chosen by it.
        since: when the first of the partitions lost its last worker, monotonic seconds.
    """

    number: int
    partitions: Partitions
    place: int
    since: float


@dataclass(frozen=True, slots=True)
class Release:
    """Tell a worker to release partitions."""

    number: int
    partitions: Partitions


@dataclass(frozen=True, slots=True)
class Terminate:
    """Send SIGTERM: the worker drains and ends."""

    number: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Send SIGKILL; its partitions are free when the process has been reaped."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Join:
    """Join the group."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave the group, so that other machines take over; no worker holds a partition."""


@dataclass(frozen=True, slots=True)
class Report:
    """Write a line to the log.

    Attributes:
        event: the text.
        number: the worker that it is about.
        status: the exit status of its process.
        pause_s: the time until the next start.
    """

    level: Literal["info", "warning", "error"]
    event: str
    number: int
    status: int
    pause_s: float | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """All workers have ended; the supervisor ends with this status."""

    status: int


Action = Start | Assign | Release | Terminate | Kill | Join | Leave | Report | Exit
