"""Prepares the versions of one model; every failure becomes an error that rejects the version."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from streamer.errors import PredictError, SpecError
from streamer.metrics import Metrics
from streamer.prepared_version import PreparedVersion
from streamer.types import Header, ModelVersion

_SERVERS_FAULT = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED", "PERMISSION_DENIED", "UNAUTHENTICATED"}
)


class Preparer(Protocol):
    """Prepares versions; `streamer.serving.warmup.Preparer` says what is raised."""

    async def prepare(self, version: ModelVersion) -> PreparedVersion: ...
    def remember(self, value: bytes, headers: Sequence[Header]) -> None: ...


def is_own_fault(error: PredictError | SpecError) -> bool:
    """Whether a failure to prepare a version is the version's own fault, not that of a server."""
    return not (isinstance(error, PredictError) and error.code in _SERVERS_FAULT)


@dataclass(slots=True)
class Preparation:
    """Prepares the versions of one model, and remembers which of them cannot be prepared.

    Attributes:
        failures: the reason for each version that the servers have and that cannot be prepared by its own fault.
    """

    name: str
    preparer: Preparer
    metrics: Metrics
    log: FilteringBoundLogger
    failures: dict[int, str] = field(default_factory=dict)

    async def prepare(self, number: int) -> PreparedVersion:
        """Verifies and warms a version.

        Raises:
            SpecError, PredictError: the version cannot be prepared; it was logged and counted.
        """
        version = ModelVersion(self.name, number)
        try:
            prepared = await self.preparer.prepare(version)
        except (PredictError, SpecError) as error:
            self.log.error("version not prepared", model=str(version), error=str(error))  # noqa: TRY400  it is raised
            self._failed(number, error)
            raise
        except Exception as error:
            # A defect that one version triggers: the version is rejected, the others continue.
            self.log.exception("version not prepared", model=str(version))
            failure = PredictError("INTERNAL", f"{version}: internal error: {error!r:.200}")
            self._failed(number, failure)
            raise failure from error
        self._forget(number)
        return prepared

    def see(self, available: Iterable[int]) -> None:
        """Forgets the failures of versions that have vanished."""
        for number in self.failures.keys() - set(available):
            self._forget(number)

    def _failed(self, number: int, error: PredictError | SpecError) -> None:
        if is_own_fault(error):
            self.failures[number] = str(error)
            self.metrics.bad_version.labels(self.name, str(number)).set(1)

    def _forget(self, number: int) -> None:
        if self.failures.pop(number, None) is not None:
            self.metrics.bad_version.remove(self.name, str(number))
