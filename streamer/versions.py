"""Which version of a model serves. Pure: it is told what the server has, and says what to prepare."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field


@dataclass(slots=True)
class Versions:
    """The version that is pinned, and the next one.

    Promise: a version serves only after `adopt`, that is, when its spec is read and it is warm; one that could not be
    prepared is left alone for `retry_s`. Invariant: `pinned` changes by `adopt` alone.
    """

    retry_s: float = 30.0
    pinned: int | None = None
    _failed_until: dict[int, float] = field(default_factory=dict)

    def wanted(self, available: AbstractSet[int], now: float) -> int | None:
        """The version to prepare now, or None to stay.

        The newest one above the pinned one; when the pinned one is gone, the newest there is, older or not.
        """
        fit = {v for v in available if self._failed_until.get(v, now) <= now}
        if self.pinned in available:
            fit = {v for v in fit if self.pinned is None or v > self.pinned}
        return max(fit, default=None)

    def adopt(self, version: int) -> None:
        """The version is prepared: it serves from now on."""
        self.pinned = version
        self._failed_until.pop(version, None)

    def refuse(self, version: int, now: float) -> None:
        """The version could not be prepared."""
        self._failed_until[version] = now + self.retry_s
