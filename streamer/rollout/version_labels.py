"""The versions that the labels of a model lead to."""

from dataclasses import dataclass, field
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from streamer.errors import PredictError
from streamer.types import Availability


class ModelServers(Protocol):
    """The versions on the model servers; `streamer.serving.control.Control` says what is raised."""

    async def available(self, model: str) -> Availability: ...
    async def labelled(self, model: str, label: str) -> int: ...


@dataclass(frozen=True, slots=True)
class VersionLabels:
    """Reads the labels of one model from its servers; logs each failure once, not at every poll."""

    servers: ModelServers
    model: str
    log: FilteringBoundLogger
    failures: dict[str, str] = field(default_factory=dict)  # by label, as logged last

    async def version_of(self, label: str) -> int | None:
        """The version that a label leads to; None while the servers do not know it or disagree."""
        try:
            version = await self.servers.labelled(self.model, label)
        except PredictError as error:
            if self.failures.get(label) != str(error):
                self.log.warning("label not followed", model=self.model, label=label, error=str(error))
            self.failures[label] = str(error)
            return None
        self.failures.pop(label, None)
        return version
