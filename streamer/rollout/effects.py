"""The effects of actions on log, metrics, cached scores and waiting requests."""

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from streamer.metrics import Metrics
from streamer.prepared_version import PreparedVersion
from streamer.rollout import actions
from streamer.rollout.coverage import LiveCoverage
from streamer.types import ModelVersion


class DropsVersions(Protocol):
    """A cache of scores by version."""

    def drop(self, version: ModelVersion) -> None: ...


@dataclass(slots=True)
class Effects:
    """Carries out the actions of one model that concern other parts.

    Attributes:
        coverage: of the requests that the model's versions encode.
        users_moved: set, and replaced, when a version loses its users to another one.
    """

    cache: DropsVersions | None
    metrics: Metrics
    log: FilteringBoundLogger
    users_moved: asyncio.Event = field(default_factory=asyncio.Event)
    coverage: LiveCoverage = field(init=False)

    def __post_init__(self) -> None:
        self.coverage = LiveCoverage(self.metrics, self.log)

    def execute(self, action: actions.Action, version: ModelVersion, ready: PreparedVersion | None) -> None:
        """Carries out an action on a version; `ready`: the version, if it is prepared."""
        match action:
            case actions.Promote(before=before):
                assert ready is not None, "only a prepared version serves"
                self._promoted(ready, before)
            case actions.DropCache():
                self.drop(version)
            case actions.CountRollBack():
                self.metrics.rollbacks.labels(version.name).inc()
            case actions.Log(level, message, _, details):
                getattr(self.log, level)(message, model=str(version), **details)
            case _:
                pass

    def drop(self, version: ModelVersion) -> None:
        """Drops the scores of a version; the requests that wait for its successor look again."""
        self.users_moved.set()
        self.users_moved = asyncio.Event()
        if self.cache is not None:
            self.cache.drop(version)

    def _promoted(self, serving: PreparedVersion, before: int | None) -> None:
        name = serving.version.name
        self.coverage.begin(serving)
        self.metrics.serving_version.labels(name).set(serving.version.version)
        if before is not None:
            self.metrics.version_changes.labels(name).inc()
        self.log.info(
            "model serves",
            model=str(serving.version),
            spec=serving.encoder.spec.name,
            spec_hash=serving.encoder.spec.hash,
            before=None if before is None else f"{name}/{before}",
        )
