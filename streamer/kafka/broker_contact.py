"""Whether the brokers still deliver records and accept answers. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

OUTAGE_S = 10.0
"""Silence of the brokers for so long is an outage."""


@dataclass(slots=True)
class BrokerContact:
    """Signs of life of the brokers, as `observe` sees them several times a second.

    1. While records wait for the brokers' acknowledgement, acknowledgements are the sign: reading may be paused.
    2. Otherwise the replies to fetches are; an idle topic has two a second.
    3. Without partitions there is nothing to read: no outage.

    `now` and the attributes are monotonic seconds.
    """

    fetched_at: float
    acknowledged_at: float
    _fetches: Sequence[int | None] = ()
    _acknowledged: int = 0
    _unacknowledged: int = 0

    def observe(self, now: float, fetches: Sequence[int | None], *, acknowledged: int, unacknowledged: int) -> None:
        """Compares with the state before.

        Args:
            now: monotonic seconds.
            fetches: for each assigned partition a value that changes with each reply to a fetch.
            acknowledged: records acknowledged since the start.
            unacknowledged: records received and not acknowledged.
        """
        if not fetches or fetches != self._fetches:
            self.fetched_at, self._fetches = now, fetches
        if not unacknowledged or acknowledged != self._acknowledged:
            self.acknowledged_at, self._acknowledged = now, acknowledged
        self._unacknowledged = unacknowledged

    def outage(self, now: float) -> str | None:
        """What the brokers have not done, and for how long; None while they do."""
        if self._unacknowledged:
            silent_s, what = now - self.acknowledged_at, "acknowledged an answer"
        else:
            silent_s, what = now - self.fetched_at, "answered a fetch"
        return None if silent_s < OUTAGE_S else f"no broker has {what} for {silent_s:.0f} s"
