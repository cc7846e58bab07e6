"""Judges a new version by its failures and its score distribution. Pure."""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from streamer.settings.sections import JUDGED_CALLS, GuardSettings
from streamer.types import F32, ModelVersion

_EDGES = np.logspace(-4, 0, 17, dtype=np.float32)[:-1]
_DECAY = 0.999
_MIN_SHARE = 1e-4
_OTHERS_WEIGHT = 0.2


def stability_index(expected: npt.NDArray[np.float64], found: npt.NDArray[np.float64]) -> float:
    """The population stability index of two histograms: Σ (f - e) ln(f / e) over their shares.

    Their bins are equal. Two samples of one population have about 0.1; above 0.25 is commonly called a shift.
    """
    e = np.maximum(expected / expected.sum(), _MIN_SHARE)
    f = np.maximum(found / found.sum(), _MIN_SHARE)
    return float(((f - e) * np.log(f / e)).sum())


@dataclass(slots=True)
class VersionGuard:
    """Compares the first calls of a version with those of the version before it.

    1. It gives at most one verdict for each version: when more than `max_error_share` of at least 20 calls fail or
       lack half of their scores, or when the stability index of `min_rows` scores on each side is above `max_drift`.
    2. After `watched_calls` calls the version is trusted, and the next one is compared with its scores.
    3. Scores of a version with a bad verdict are never compared with.
    4. While most calls of the model's other versions fail too, failures are not counted: the servers are at fault.
    """

    settings: GuardSettings
    _version: ModelVersion | None = None
    _watching: bool = False
    _calls: int = 0
    _errors: int = 0
    # The recent share of failed calls of other versions.
    _others: float = 0.0
    _reference: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(_EDGES) + 1))
    _found: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(_EDGES) + 1))

    def watch(self, version: ModelVersion, *, trusted: bool) -> None:
        """Starts to count the calls of a version; a trusted one is not judged."""
        if not self._watching and self._found.sum() >= self.settings.min_rows:
            self._reference = self._found
        self._version = version
        self._watching = not trusted and self.settings.watched_calls > 0
        self._calls = self._errors = 0
        self._others = 0.0
        self._found = np.zeros(len(_EDGES) + 1)

    def scored(self, version: ModelVersion, ctr: F32) -> str | None:
        """Counts a call that returned scores, float32 [n], NaN for a row without one.

        Returns why the version is bad, or None.
        """
        if version != self._version:
            self._others *= 1.0 - _OTHERS_WEIGHT
            return None
        # The sum is NaN if one of them is.
        valid = ctr[~np.isnan(ctr)] if math.isnan(np.add.reduce(ctr)) else ctr
        self._calls += 1
        self._errors += len(valid) <= len(ctr) / 2
        counts = np.bincount(_EDGES.searchsorted(valid), minlength=len(_EDGES) + 1)
        self._found = self._found * (1.0 if self._watching else _DECAY) + counts
        return self._verdict()

    def failed(self, version: ModelVersion) -> str | None:
        """Counts a call that failed by the version's fault. Returns why the version is bad, or None."""
        if version != self._version:
            self._others += _OTHERS_WEIGHT * (1.0 - self._others)
            return None
        if self._others > self.settings.max_error_share:
            return None
        self._calls += 1
        self._errors += 1
        return self._verdict()

    def _verdict(self) -> str | None:
        if not self._watching:
            return None
        settings = self.settings
        if self._calls >= JUDGED_CALLS and self._errors > settings.max_error_share * self._calls:
            return self._bad(f"{self._errors} of its first {self._calls} calls failed")
        if self._reference.sum() >= settings.min_rows and self._found.sum() >= settings.min_rows:
            drift = stability_index(self._reference, self._found)
            if drift > settings.max_drift:
                return self._bad(
                    f"its score distribution differs from the previous version's: stability index {drift:.2f},"
                    f" more than guard.max_drift = {settings.max_drift:g}"
                )
        if self._calls >= settings.watched_calls:
            self._watching = False
        return None

    def _bad(self, reason: str) -> str:
        self._watching = False
        self._found = np.zeros(len(_EDGES) + 1)
        return reason
