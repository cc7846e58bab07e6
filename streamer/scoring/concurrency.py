"""How many calls may be in flight at once, learnt from what the server makes of them. Pure."""

from streamer.scoring.latency import LatencyModels
from streamer.types import ModelVersion

# Calls that may wait inside the server: below the first the limit rises, above the second it falls.
_QUEUED = (0.7, 1.7)
_FORGET = 0.1
_STEP = 0.5
_PROBE_EVERY = 500


class ConcurrencyLimit:
    """Keeps as many calls in flight as the server works on at once, and about one more that waits for it.

    As TCP Vegas does (Brakmo and Peterson, 1995), with calls for packets: a call that takes `seconds`, where one that
    has the server to itself takes `alone`, has found `limit × (1 - alone / seconds)` calls queued before it. Every now
    and then one call is left alone, so that what is known of it stays true.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._value = float(most)
        self._queued = 0.0
        self._alone = LatencyModels()
        # The first call goes alone.
        self._calls = _PROBE_EVERY

    @property
    def calls(self) -> int:
        """Calls that may be in flight now, 1 to `most`."""
        return 1 if self._calls >= _PROBE_EVERY else round(self._value)

    def observe(self, version: ModelVersion, rows: int, seconds: float, *, alone: bool) -> None:
        """A call of a version with this many rows came back; `alone` if no other was in flight while it ran."""
        model = self._alone.of(version)
        self._calls += 1
        if alone:
            model.observe(rows, seconds)
            self._calls = 0
            return
        expected = model.estimate(rows)
        if not expected or seconds <= 0:
            return
        queued = self._value * max(0.0, 1.0 - expected / seconds)
        self._queued += _FORGET * (queued - self._queued)
        if self._queued < _QUEUED[0]:
            self._value = min(self._most, self._value + _STEP / self._value)
        elif self._queued > _QUEUED[1]:
            self._value = max(1.0, self._value - _STEP / self._value)
