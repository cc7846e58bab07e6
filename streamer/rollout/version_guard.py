"""Watches a version that has just begun to serve: does it fail, are its scores another story? Pure."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from streamer.settings.sections import GuardSettings
from streamer.types import F32, ModelVersion

_LEAST_CALLS = 20
_EDGES = np.logspace(-4, 0, 17)[:-1]
_FORGET = 0.999
_NOTHING = 1e-4


def stability_index(expected: npt.NDArray[np.float64], found: npt.NDArray[np.float64]) -> float:
    """The population stability index of two histograms with equal bins: Σ (f - e) ln(f / e) over their shares.

    Around 0.1 is what two samples of like populations show, above 0.25 is commonly called a shift.
    """
    e = np.maximum(expected / expected.sum(), _NOTHING)
    f = np.maximum(found / found.sum(), _NOTHING)
    return float(((f - e) * np.log(f / e)).sum())


@dataclass(slots=True)
class Guard:
    """Compares a version's first calls with what the version before it did.

    It speaks up once, when more than `max_error_share` of at least 20 calls fail by the version's own fault, or when
    the distribution of `min_rows` scores differs from its predecessor's by a stability index above `max_drift`. After
    `watched_calls` calls the version is trusted, and its own scores become what the next one is compared with.
    """

    settings: GuardSettings
    _version: ModelVersion | None = None
    _watching: bool = False
    _calls: int = 0
    _errors: int = 0
    _reference: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(_EDGES) + 1))
    _found: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(_EDGES) + 1))

    def watch(self, version: ModelVersion, *, trusted: bool) -> None:
        """A version begins to serve; a trusted one (the first, one that an operator chose) is not judged."""
        if not self._watching and self._found.sum() >= self.settings.min_rows:
            self._reference = self._found
        self._version = version
        self._watching = not trusted
        self._calls = self._errors = 0
        self._found = np.zeros(len(_EDGES) + 1)

    def scored(self, version: ModelVersion, ctr: F32) -> str | None:
        """A call came back with scores, float32 [n]. Why the version must go, or None."""
        if version != self._version:
            return None
        self._calls += 1
        counts = np.bincount(np.searchsorted(_EDGES, ctr), minlength=len(_EDGES) + 1)
        self._found = self._found * (1.0 if self._watching else _FORGET) + counts
        return self._verdict()

    def failed(self, version: ModelVersion) -> str | None:
        """A call failed by the version's own fault. Why the version must go, or None."""
        if version != self._version:
            return None
        self._calls += 1
        self._errors += 1
        return self._verdict()

    def _verdict(self) -> str | None:
        if not self._watching:
            return None
        settings = self.settings
        if self._calls >= _LEAST_CALLS and self._errors > settings.max_error_share * self._calls:
            return self._speak(f"{self._errors} of its first {self._calls} calls failed")
        if self._reference.sum() >= settings.min_rows and self._found.sum() >= settings.min_rows:
            drift = stability_index(self._reference, self._found)
            if drift > settings.max_drift:
                return self._speak(
                    f"its scores differ from the version's before it: stability index {drift:.2f}, more than"
                    f" guard.max_drift = {settings.max_drift:g}"
                )
        if self._calls >= settings.watched_calls:
            self._watching = False
        return None

    def _speak(self, reason: str) -> str:
        self._watching = False
        self._found = np.zeros(len(_EDGES) + 1)  # they are no reference for anyone
        return reason
