"""An absolute, monotonic deadline that every stage of a request shares."""

import msgspec


class Deadline(msgspec.Struct, frozen=True, order=True):
    """The moment after which an answer has no value.

    `at`, `start` and every `now` are seconds of one monotonic clock. The most urgent deadline is the smallest.
    """

    at: float
    start: float

    @classmethod
    def after(cls, start: float, budget_ms: float) -> "Deadline":
        """The deadline `budget_ms` milliseconds after `start`."""
        return cls(at=start + budget_ms / 1e3, start=start)

    def with_budget(self, budget_ms: float) -> "Deadline":
        """The same start with another budget, for a request that names its own."""
        return Deadline.after(self.start, budget_ms)

    def remaining(self, now: float) -> float:
        """Seconds left; negative after the deadline."""
        return self.at - now

    def expired(self, now: float) -> bool:
        """Whether an answer given at `now` is too late."""
        return now >= self.at
