"""Which version of a model serves. Pure: it is told what the server has, and says what to prepare."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field


@dataclass(slots=True)
class Versions:
    """The version that is pinned, and the next one.

    Promise: a version serves only after `adopt`, that is, when its spec is read and it is warm; one that could not be
    prepared is left alone for `retry_s`, one that was rejected for good. Invariant: `pinned` changes by `adopt` alone.

    Attributes:
        by_label: whether the version that a label leads to shall serve instead of the newest one.
        held: the version that an operator wants to serve, whatever else there is.
        rejected: versions that served and were rolled back.
    """

    retry_s: float = 30.0
    by_label: bool = False
    pinned: int | None = None
    held: int | None = None
    rejected: set[int] = field(default_factory=set)
    _failed_until: dict[int, float] = field(default_factory=dict)

    def wanted(self, available: AbstractSet[int], now: float, labelled: int | None = None) -> int | None:
        """The version to prepare now, or None to stay.

        The held one if it is there; else the newest one above the pinned one and those rejected, or, by label, the one
        that the label leads to (`labelled`; None: nobody knows), older or not, unless it was rejected. When the pinned
        one is gone and none is labelled, the newest there is, older or not, a rejected one only if there is no other;
        but by label nothing begins to serve without a label.
        """
        if self.held is not None and self.held in available:
            return self.held if self.held != self.pinned else None
        fit = {v for v in available if self._failed_until.get(v, now) <= now}
        due = labelled if labelled in fit - self.rejected else None
        if self.pinned in available:
            if self.held is not None:
                return None
            if self.by_label:
                return due if due != self.pinned else None
            # After a rollback only what came after the rejected one is news.
            latest = max(self.rejected | {self.pinned or 0})
            return max((v for v in fit if v > latest), default=None)
        if self.by_label and (due is not None or self.pinned is None):
            return due
        return max(fit - self.rejected or fit, default=None)

    def is_way_back(self, version: int) -> bool:
        """Whether a move to this version is a roll back, which is made at once and which nothing reverses."""
        return self.by_label and self.pinned is not None and version < self.pinned

    def is_fit(self, version: int, now: float) -> bool:
        """Whether nothing speaks against this version: it was not rejected, nor refused of late."""
        return version not in self.rejected and self._failed_until.get(version, now) <= now

    def adopt(self, version: int) -> None:
        """The version is prepared: it serves from now on."""
        self.pinned = version
        self._failed_until.pop(version, None)

    def refuse(self, version: int, now: float) -> None:
        """The version could not be prepared."""
        self._failed_until[version] = now + self.retry_s

    def reject(self, version: int) -> None:
        """The version served and must not come back by itself."""
        self.rejected.add(version)
        if self.held == version:
            self.held = None

    def hold(self, version: int) -> None:
        """An operator wants this version, rejected or not, until `release`."""
        self.held = version
        self.rejected.discard(version)
        self._failed_until.pop(version, None)

    def release(self) -> None:
        """Back to the newest version, or the labelled one; what was rejected gets another chance."""
        self.held = None
        self.rejected.clear()
