"""Prepares the versions of one model; a failure rejects the version, whatever it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from streamer.errors import PredictError, SpecError, TableLoadingError
from streamer.metrics import Metrics
from streamer.prepared_version import PreparedVersion
from streamer.rollout.events import LOADING_RETRY_S, RETRY_S
from streamer.types import Header, ModelVersion

_SERVERS_FAULT = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED", "PERMISSION_DENIED", "UNAUTHENTICATED"}
)
CHECK_S = 10.0


class Preparer(Protocol):
    """Prepares versions; `streamer.serving.warmup.Preparer` says what is raised."""

    async def prepare(self, version: ModelVersion) -> PreparedVersion: ...
    async def difference(self, version: ModelVersion) -> str | None: ...
    def remember(self, value: bytes, headers: Sequence[Header]) -> None: ...


def is_own_fault(error: PredictError | SpecError) -> bool:
    """Whether a failure to prepare a version is the version's own fault, not that of a server."""
    return not (isinstance(error, PredictError) and error.code in _SERVERS_FAULT)


def gives_way(error: PredictError | SpecError) -> bool:
    """Whether another version serves meanwhile, if there is one: a load can take a minute."""
    return is_own_fault(error) or isinstance(error, TableLoadingError)


def is_passed_over(error: PredictError | SpecError, *, has_alternative: bool) -> bool:
    """Whether a version waits for `retry_s` of its error.

    One whose calls hang, or whose table loads, waits only if there is an alternative.
    """
    is_hung = isinstance(error, PredictError) and error.code == "DEADLINE_EXCEEDED"
    return is_own_fault(error) or (has_alternative and (is_hung or gives_way(error)))


def retry_s(error: PredictError | SpecError) -> float:
    """How long a version that is passed over waits, in seconds."""
    return LOADING_RETRY_S if isinstance(error, TableLoadingError) else RETRY_S


def lacks_space(error: PredictError | SpecError, previous: int | None, prepared: Mapping[int, PreparedVersion]) -> bool:
    """Whether a table of ads has no space, and the previous version alone uses another one."""
    is_full = isinstance(error, TableLoadingError) and error.has_no_space
    others = {each.encoder.spec.hash for number, each in prepared.items() if number != previous}
    return is_full and previous is not None and prepared[previous].encoder.spec.hash not in others


@dataclass(slots=True)
class Preparation:
    """Prepares the versions of one model, and finds out which of them are bad or were replaced.

    A version is compared with what it was when it was prepared: every `CHECK_S` seconds, and at the next poll after a
    failed call or while a server lacks it. A server that restarts causes such a failure.

    Attributes:
        failures: the reason for each version that the servers have and that cannot be prepared by its own fault.
        loading: the versions that wait for their tables of ads, with the last answer to each.
        unknown: versions that were replaced by an object that is not prepared, and when that is tried again.
    """

    name: str
    preparer: Preparer
    metrics: Metrics
    log: FilteringBoundLogger
    failures: dict[int, str] = field(default_factory=dict)
    unknown: dict[int, float] = field(default_factory=dict)
    loading: dict[int, TableLoadingError] = field(default_factory=dict)
    _check_at: float = 0.0

    async def prepare(self, number: int) -> PreparedVersion:
        """Verifies and warms a version.

        Raises:
            SpecError, PredictError: the version cannot be prepared; it was logged and counted.
        """
        version = ModelVersion(self.name, number)
        try:
            prepared = await self.preparer.prepare(version)
        except TableLoadingError as error:
            if number not in self.loading:
                self.log.info("version waits for its ads", model=str(version), progress=str(error))
            self.loading[number] = error
            raise
        except (PredictError, SpecError) as error:
            self.log.error("version not prepared", model=str(version), error=str(error))  # noqa: TRY400  it is raised
            self._failed(number, error)
            raise
        except Exception as error:
            # A defect that one version triggers: the version is rejected, the others continue.
            trace = not isinstance(error, MemoryError)  # its trace would end the process, which serves well without it
            self.log.error("version not prepared", model=str(version), error=repr(error), exc_info=trace)  # noqa: TRY400
            failure = PredictError("INTERNAL", f"{version}: internal error: {error!r:.200}")
            self._failed(number, failure)
            raise failure from error
        self._forget(number)
        return prepared

    async def renewed(self, version: ModelVersion, now: float, *, alone: bool) -> PreparedVersion | None:
        """The version, prepared again, if its number names another object now; None: it does not.

        `alone`: no other version could serve instead, so a failure is tried again at once.

        Raises:
            SpecError, PredictError: the other object cannot be prepared.
        """
        try:
            reason = await self.preparer.difference(version)
        except Exception:
            self.log.exception("version not compared", model=str(version))
            self.suspect()
            return None
        if reason is None:
            self._forget(version.version)
            return None
        self.log.warning("version replaced, preparing it again", model=str(version), reason=reason)
        self.metrics.replaced_versions.labels(self.name).inc()
        try:
            return await self.prepare(version.version)
        except (PredictError, SpecError) as error:
            self.suspect()
            # By a server's fault it is tried again at once; until then no rows of the old spec go to the new object.
            self.unknown[version.version] = now + retry_s(error) if gives_way(error) and not alone else now
            raise

    def suspect(self) -> None:
        """The next poll compares the versions with what they were."""
        self._check_at = 0.0

    def is_check_due(self, now: float, *, all_there: bool) -> bool:
        """Whether this poll compares the versions with what they were.

        `all_there`: the servers have all versions that answer users.
        """
        is_due = now >= self._check_at or not all_there
        if is_due:
            self._check_at = now + CHECK_S if all_there else 0.0  # a version may be another object when it returns
        return is_due

    def see(self, available: frozenset[int], now: float) -> frozenset[int]:
        """Forgets what has vanished; returns the versions that must not be used now."""
        for number in (self.failures.keys() | self.unknown.keys() | self.loading.keys()) - available:
            self._forget(number)
        return frozenset(number for number, retry_at in self.unknown.items() if now < retry_at)

    def no_version(self, label_failure: str | None) -> PredictError:
        """The error that no version can serve, with the reasons."""
        reasons = [] if label_failure is None else [label_failure]
        reasons += [f"version {number}: {reason}" for number, reason in sorted(self.failures.items())]
        return PredictError("UNAVAILABLE", "; ".join(reasons) or f"no version of {self.name!r} is AVAILABLE")

    def told(self, error: PredictError) -> PredictError:
        """The error to show: the progress of a load before the wait for its end."""
        if not isinstance(error, TableLoadingError) or not error.has_no_space:
            return error
        return next((each for each in self.loading.values() if not each.has_no_space), error)

    def _failed(self, number: int, error: PredictError | SpecError) -> None:
        if is_own_fault(error):
            self.failures[number] = str(error)
            self.metrics.bad_version.labels(self.name, str(number)).set(1)

    def _forget(self, number: int) -> None:
        self.unknown.pop(number, None)
        self.loading.pop(number, None)
        if self.failures.pop(number, None) is not None:
            self.metrics.bad_version.remove(self.name, str(number))
