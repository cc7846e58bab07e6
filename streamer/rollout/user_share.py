"""Which share of the users a version has. Pure."""

from dataclasses import dataclass

import xxhash

_ALL = 2**64


@dataclass(frozen=True, slots=True)
class Rollout:
    """Moves users to a version step by step, or holds it at a share of them.

    A user is a record's key; who has been moved stays moved while the share grows, so each user meets one change. A
    record without a key counts as one more user. Another `seed` chooses other users.
    """

    start: float
    ramp_s: float
    fixed: float | None = None
    seed: int = 0

    def share(self, now: float) -> float:
        """The share of users, in [0, 1], who have the version now."""
        if self.fixed is not None:
            return self.fixed
        if self.ramp_s <= 0:
            return 1.0
        return min(1.0, max(0.0, (now - self.start) / self.ramp_s))

    def has(self, key: bytes | None, now: float) -> bool:
        """Whether the user with this key has the version now."""
        return xxhash.xxh3_64_intdigest(key or b"", self.seed) < self.share(now) * _ALL
