"""Finds out whether a version number names another object than before. Pure.

A server loads what is in a folder, under the folder's number; after a restart that may be another model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from streamer.errors import BadReplyError, PredictError
from streamer.types import F32, BatchInputs, ModelVersion, SignatureInfo

# Scores of one model on processors of different kinds differ by about 1e-6 of their value; those of a model that was
# trained again by far more, for at least one of the rows.
_TOLERANCE = 1e-4
_KEPT = 8
# Failures of a call that has succeeded before, on the same rows: another object is there now.
_OWN_FAULTS = frozenset({"FAILED_PRECONDITION", "INVALID_ARGUMENT", "UNIMPLEMENTED"})


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What a server shows of a version.

    Attributes:
        spec: as JSON; None if the version has none, because a file has it.
        scores: of fixed rows, float32 [n]; None if they differ from call to call.
    """

    spec: str | None
    signature: SignatureInfo
    scores: F32 | None

    def difference(self, now: "Shown") -> str | None:
        """What differs now, in words; None: nothing."""
        if now.spec != self.spec:
            return "its feature spec differs"
        if now.signature != self.signature:
            return "its signature differs"
        if self.scores is None or now.scores is None:
            return None
        same = np.allclose(now.scores, self.scores, rtol=_TOLERANCE, atol=1e-7, equal_nan=True)
        return None if same else "its scores of the same rows differ"


class ShowsVersions(Protocol):
    """Model servers that show a version; `Control` says what is returned."""

    async def show(
        self, version: ModelVersion, inputs: BatchInputs, *, has_spec: bool
    ) -> Mapping[str, Shown | PredictError]: ...


@dataclass(frozen=True, slots=True)
class _Reference:
    rows: BatchInputs
    has_spec: bool
    shown: Mapping[str, Shown]

    def difference(self, found: Mapping[str, Shown | PredictError]) -> str | None:
        """What differs on some server, in words; None: nothing, or no server tells."""
        for address, now in found.items():
            if not isinstance(now, PredictError):
                # A server that did not show the version before is compared with another one.
                before = self.shown.get(address) or next(iter(self.shown.values()))
                if reason := before.difference(now):
                    return f"{reason} on {address}"
        failures = [now for now in found.values() if isinstance(now, PredictError)]
        is_broken = len(failures) == len(found) and all(failure.code in _OWN_FAULTS for failure in failures)
        return str(failures[0]) if is_broken and failures else None


class Identities:
    """What the servers showed of each version when it was prepared."""

    def __init__(self, servers: ShowsVersions) -> None:
        self._servers = servers
        self._references: dict[int, _Reference] = {}
        self._generation = 0

    async def record(self, version: ModelVersion, rows: BatchInputs, *, has_spec: bool) -> ModelVersion:
        """Records what the servers show; returns the version with its generation.

        Args:
            rows: fixed rows, the same for equal specs.

        Raises:
            BadReplyError: servers have different objects under this number; no encoding fits all of them.
            PredictError: no server shows the version.
        """
        first = await self._servers.show(version, rows, has_spec=has_spec)
        second = await self._servers.show(version, rows, has_spec=has_spec)
        shown: dict[str, Shown] = {}
        for address, one in first.items():
            if not isinstance(one, PredictError):
                again = second.get(address)
                is_stable = isinstance(again, Shown) and one.difference(again) is None
                shown[address] = one if is_stable else replace(one, scores=None)
        if not shown:
            raise next(failure for failure in first.values() if isinstance(failure, PredictError))
        (address, one), *others = shown.items()
        for other, its in others:
            if (reason := replace(one, scores=None).difference(its)) is not None:
                detail = (
                    f"{version}: servers have different objects under this number: {reason} on {address} and {other}"
                )
                raise BadReplyError("FAILED_PRECONDITION", detail)
        before = self._references.pop(version.version, None)
        if before is not None and before.difference(shown) is not None:
            self._generation += 1
        self._references[version.version] = _Reference(rows, has_spec, shown)
        if len(self._references) > _KEPT:
            self._references.pop(next(iter(self._references)))
        return replace(version, generation=self._generation)

    async def difference(self, version: ModelVersion) -> str | None:
        """Why the number names another object than when it was recorded.

        None if it does not, or if no server tells.
        """
        reference = self._references.get(version.version)
        if reference is None:
            return None
        return reference.difference(await self._servers.show(version, reference.rows, has_spec=reference.has_spec))
