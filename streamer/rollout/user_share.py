"""The share of the users that a version has. Pure."""

from dataclasses import dataclass

import xxhash

_ALL = 2**64


@dataclass(frozen=True, slots=True)
class UserShare:
    """A share of the users that grows evenly within `ramp_s` seconds, or is fixed.

    A user is the key of a record; all records without a key count as one user. Another `seed` selects other users.
    Invariant: while the share grows, a user that has the version keeps it, so each user changes version once.
    """

    start: float
    ramp_s: float
    fixed: float | None = None
    seed: int = 0

    def share(self, now: float) -> float:
        """The share of the users that have the version now, in [0, 1]."""
        if self.fixed is not None:
            return self.fixed
        if self.ramp_s <= 0:
            return 1.0
        return min(1.0, max(0.0, (now - self.start) / self.ramp_s))

    def has(self, key: bytes | None, now: float) -> bool:
        """Whether the user with this key has the version now."""
        return xxhash.xxh3_64_intdigest(key or b"", self.seed) < self.share(now) * _ALL
