"""The actions that a step of the state machine returns to the controller. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from streamer.rollout.events import Cause

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Prepare:
    """Prepare the version, then enter `Prepared` with the same cause, or `Failed`."""

    version: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Promote:
    """The version serves from now on; `before` served until now."""

    version: int
    before: int | None


@dataclass(frozen=True, slots=True)
class WatchVersion:
    """Count the calls of the version; judge it by them unless it is trusted."""

    version: int
    trusted: bool


@dataclass(frozen=True, slots=True)
class DropCache:
    """The version answers no user any more: drop its scores, wake its waiting requests."""

    version: int


@dataclass(frozen=True, slots=True)
class CountRollBack:
    """The version was rolled back."""

    version: int


@dataclass(frozen=True, slots=True)
class Log:
    """Log a change of this version."""

    level: Level
    message: str
    version: int
    details: Mapping[str, object] = field(default_factory=dict)


Action = Prepare | Promote | WatchVersion | DropCache | CountRollBack | Log
