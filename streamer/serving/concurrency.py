"""The limit of concurrent calls to one server, learnt from its replies and rejections. Pure."""

from streamer.latency import LatencyModels
from streamer.types import ModelVersion

START_CALLS = 3
# Rejections. One cuts the limit to this share of the calls that the server accepted; each accepted call adds to it in
# inverse proportion.
_REDUCTION, _GROWTH = 0.9, 0.1
# While one call at a time is too much: the mean pause before a call, in latencies, which a rejection adds to and an
# accepted call cuts to this share. Below the last number there is no pause.
_PAUSE_STEP, _PAUSE_KEPT, _NO_PAUSE = 0.05, 0.7, 0.1
_MAX_PAUSE = 4.0
# Queueing in the server. The limit rises below the first number of queued calls and falls above the second.
_QUEUED = (1.5, 3.0)
_FORGET = 0.1
_PROBE_EVERY, _FIRST_PROBES = 2000, 8
# Spreads the calls above the whole number evenly over time.
_GOLDEN = 0.618034


class ConcurrencyLimit:
    """Allows as many concurrent calls to one server as it processes for this worker.

    Other workers call the same server; they share nothing with this one.

    - A server that rejects calls: additive increase, multiplicative decrease (Chiu and Jain, 1989). All workers grow
      equally fast and lose in proportion, so they converge to equal shares. A limit of 2.3 allows three calls in 30 %
      of the time.
    - If the server is too full for one call of each worker, each one pauses at random before each call. A worker that
      has just been served waits like the others, so none keeps the server to itself.
    - A server that queues calls: TCP Vegas (Brakmo and Peterson, 1995), with calls for packets. A call takes `alone`
      seconds if the worker has no other one there. If calls take `ratio` times as long, `limit * (1 - 1 / ratio)`
      calls are queued. The first eight calls and every 2000th later one run alone, which keeps `alone` up to date.

    Invariant: 1 <= `calls_now` <= `calls` <= the maximum.
    """

    __slots__ = ("_alone", "_calls_since_probe", "_dither", "_maximum", "_pause", "_probes", "_ratio", "_value")

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._value = float(min(START_CALLS, maximum))
        self._pause = 0.0
        self._dither = 0.5
        self._ratio = 1.0
        self._alone = LatencyModels()
        self._calls_since_probe = _PROBE_EVERY
        self._probes = 0

    def __repr__(self) -> str:
        return f"<ConcurrencyLimit {self._value:.2f} of {self._maximum}, pause {self._pause:.2f}>"

    @property
    def calls(self) -> int:
        """The concurrent calls that are allowed, apart from those that must run alone."""
        return max(1, min(self._maximum, int(self._value + self._dither)))

    @property
    def calls_now(self) -> int:
        """The concurrent calls that are allowed now."""
        is_probing = self._probes < _FIRST_PROBES or self._calls_since_probe >= _PROBE_EVERY
        return 1 if is_probing else self.calls

    @property
    def pause(self) -> float:
        """The mean pause before a call, in latencies; 0: none."""
        return 0.0 if self._pause < _NO_PAUSE else self._pause

    def rejected(self, active: int, *, again: bool) -> None:
        """The server is full: it rejected a call while `active` calls, itself included, were active.

        `again`: it has rejected the same call before, which says no more about the limit.
        """
        if active > 1:
            if again:
                return
            self._value = max(1.0, min(self._value, active - 1.0) * _REDUCTION)
        else:
            self._value = 1.0
        if self._value <= 1.0:
            self._pause = min(_MAX_PAUSE, self._pause + _PAUSE_STEP)

    def replied(self, version: ModelVersion, rows: int, seconds: float, *, alone: bool, at_limit: bool) -> None:
        """Learns from a reply.

        `alone`: the worker had no other call there during this one. `at_limit`: the limit was reached during this one,
        which the server did not reject first.
        """
        self._dither = (self._dither + _GOLDEN) % 1.0
        self._pause *= _PAUSE_KEPT
        queued = self._queued(version, rows, seconds, alone=alone)
        if queued > _QUEUED[1]:
            self._value = max(1.0, self._value - _GROWTH / self._value)
        elif at_limit and queued < _QUEUED[0] and not self.pause:
            self._value = min(float(self._maximum), self._value + _GROWTH / self._value)

    def _queued(self, version: ModelVersion, rows: int, seconds: float, *, alone: bool) -> float:
        """The calls of this worker that are queued in the server."""
        self._calls_since_probe += 1
        model = self._alone.of(version)
        if alone:
            model.observe(rows, seconds)
            self._calls_since_probe = 0
            self._probes += 1
        expected = model.estimate(rows)
        if expected > 0:
            self._ratio += _FORGET * (seconds / expected - self._ratio)
        return self._value * max(0.0, 1.0 - 1.0 / self._ratio) if self._ratio > 0 else 0.0
