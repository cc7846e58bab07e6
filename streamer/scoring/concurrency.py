"""Limits of concurrent calls, learnt from the replies and from rejections. Pure."""

from streamer.scoring.latency import LatencyModels
from streamer.types import ModelVersion

# Calls queued in the server: the limit rises below the first number and falls above the second.
_QUEUED = (0.7, 1.7)
_FORGET = 0.1
_STEP = 0.5
_PROBE_EVERY = 500
# A rejection multiplies the limit; an accepted call adds to it in inverse proportion.
_REDUCTION, _GROWTH = 0.7, 0.02
# After this many accepted calls in a row it adds ten times as much: the servers are no longer full.
_CALM, _FAST = 50, 10


class ConcurrencyLimit:
    """Allows as many concurrent calls as the server processes, and about one more queued there.

    The method of TCP Vegas (Brakmo and Peterson, 1995), with calls for packets. A call takes `alone` seconds if it has
    the server to itself. One that takes `seconds` was queued behind about `limit * (1 - alone / seconds)` calls. The
    first call and every 500th later one run alone, which keeps `alone` up to date.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._value = float(maximum)
        self._queued = 0.0
        self._alone = LatencyModels()
        # The first call runs alone.
        self._calls_since_probe = _PROBE_EVERY

    @property
    def calls(self) -> int:
        """The concurrent calls that are allowed now, 1 to `maximum`."""
        return 1 if self._calls_since_probe >= _PROBE_EVERY else round(self._value)

    def observe(self, version: ModelVersion, rows: int, seconds: float, *, alone: bool) -> None:
        """Learns from one reply; `alone`: no other call was active during this one."""
        model = self._alone.of(version)
        self._calls_since_probe += 1
        if alone:
            model.observe(rows, seconds)
            self._calls_since_probe = 0
            return
        expected = model.estimate(rows)
        if not expected or seconds <= 0:
            return
        queued = self._value * max(0.0, 1.0 - expected / seconds)
        self._queued += _FORGET * (queued - self._queued)
        if self._queued < _QUEUED[0]:
            self._value = min(self._maximum, self._value + _STEP / self._value)
        elif self._queued > _QUEUED[1]:
            self._value = max(1.0, self._value - _STEP / self._value)


class RejectionLimit:
    """Allows as many concurrent calls as the servers accept.

    A server rejects a call while all of its threads are busy.
    Additive increase, multiplicative decrease (Chiu and Jain, 1989): a rejection cuts the limit to 70 % of the calls
    that were active, and 50 limits of accepted calls raise it by one, ten times faster after 50 calls in a row.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._value = float(maximum)
        self._accepted = 0  # calls since the last rejection

    @property
    def calls(self) -> int:
        """The concurrent calls that are allowed now, 1 to `maximum`."""
        return int(self._value)

    def rejected(self, active: int) -> None:
        """A call was rejected while `active` calls, itself included, were active."""
        self._value = max(1.0, min(self._value, active * _REDUCTION))
        self._accepted = 0

    def accepted(self) -> None:
        """A call was accepted."""
        self._accepted += 1
        growth = _GROWTH * (_FAST if self._accepted > _CALM else 1)
        self._value = min(float(self._maximum), self._value + growth / self._value)
