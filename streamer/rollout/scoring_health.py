"""Whether a model can be scored, judged by its calls and the polls of its servers. Pure."""

from dataclasses import dataclass, field

OUTAGE_S = 10.0
"""The first and the last of failures without a success between them are so far apart in an outage."""
# After this time without a call, earlier failures say nothing; the polls still do.
_FORGET_S = 3 * OUTAGE_S


@dataclass(slots=True)
class _Failures:
    """Failures since the last success."""

    since: float | None = None
    last: float = 0.0
    reason: str = ""

    def add(self, now: float, reason: str) -> None:
        if self.since is None or now - self.last > _FORGET_S:
            self.since = now
        self.last, self.reason = now, reason

    def outage(self, now: float) -> str | None:
        if self.since is None or self.last - self.since < OUTAGE_S:
            return None
        return f"for {now - self.since:.0f} s: {self.reason}"


@dataclass(slots=True)
class ScoringHealth:
    """Outcomes of one model's calls and polls.

    1. A model cannot be scored if its calls, or without calls the polls of its servers, have failed for `OUTAGE_S`
       without a success.
    2. A scored call proves the opposite of a failed poll; a successful poll says nothing about calls.
    """

    _calls: _Failures = field(default_factory=_Failures)
    _polls: _Failures = field(default_factory=_Failures)
    _scored_at: float = float("-inf")

    def scored(self, now: float) -> None:
        """A call returned scores."""
        self._calls.since, self._scored_at = None, now

    def call_failed(self, now: float, reason: str) -> None:
        """A call failed, also after its retries."""
        self._calls.add(now, reason)

    def polled(self) -> None:
        """The servers have answered a poll, and a version serves."""
        self._polls.since = None

    def poll_failed(self, now: float, reason: str) -> None:
        """No server has answered a poll, or no version serves."""
        self._polls.add(now, reason)

    def outage(self, now: float) -> str | None:
        """Duration and last failure of an outage; None while the model can be scored."""
        calls = self._calls.outage(now) if now - self._calls.last <= _FORGET_S else None
        if calls is not None or now - self._scored_at < OUTAGE_S:
            return calls
        return self._polls.outage(now)
