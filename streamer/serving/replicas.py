"""Several servers of one model: which one gets the next call, and which ones are left alone. Pure."""

from collections.abc import Collection
from dataclasses import dataclass, field

_FORGET = 0.1
_FORGET_IDLE = 0.001
_TOKENS = 10.0


@dataclass(slots=True)
class Replica:
    """What is known of one server.

    Attributes:
        in_flight: calls that have not come back.
        seconds: mean time of its recent calls, less what is forgotten of it; 0 while none has come back.
        failures: failures in a row.
        closed_until: until then nothing is sent to it; 0 while it is well.
    """

    address: str
    in_flight: int = 0
    seconds: float = 0.0
    failures: int = 0
    closed_until: float = 0.0

    @property
    def broken(self) -> bool:
        """Whether its circuit is open: it gets one call to prove itself, and only when its pause is over."""
        return self.closed_until > 0

    def open_for(self, now: float) -> bool:
        """Whether it may get a call now."""
        return not self.broken or (now >= self.closed_until and not self.in_flight)


@dataclass(slots=True)
class Replicas:
    """Spreads calls over servers by how soon each should answer; keeps away from those that fail.

    Of a server that gets no calls the mean time is forgotten little by little, while others answer, until it gets one:
    nothing else would tell that it has become faster, and one slow answer would exclude it for good.

    A server that fails `failures` times in a row gets no calls for `pause_s`, then one; each further failure doubles
    the pause up to `max_pause_s`, a success ends it. Retries are paid for: each success earns `retry_share` of one, so
    that a struggling server never gets much more than the traffic it is meant to have.
    """

    replicas: list[Replica]
    failures: int = 5
    pause_s: float = 0.1
    max_pause_s: float = 2.0
    retry_share: float = 0.1
    _tokens: float = field(default=_TOKENS)

    def pick(self, now: float, tried: Collection[int] = ()) -> int | None:
        """The server that should answer first, by its calls in flight and their mean time; None: none may be asked."""
        fit = [i for i, replica in enumerate(self.replicas) if i not in tried and replica.open_for(now)]
        if not fit:
            return None
        return min(fit, key=lambda i: ((self.replicas[i].in_flight + 1) * self.replicas[i].seconds, i))

    def started(self, index: int) -> None:
        """A call leaves for it."""
        self.replicas[index].in_flight += 1

    def ended(self, index: int) -> None:
        """A call came back, or was given up."""
        self.replicas[index].in_flight -= 1

    def succeeded(self, index: int, seconds: float) -> None:
        """Its answer was right, after `seconds`."""
        replica = self.replicas[index]
        replica.failures = 0
        replica.closed_until = 0.0
        replica.seconds += (seconds - replica.seconds) * (_FORGET if replica.seconds else 1.0)
        for other in self.replicas:
            if other is not replica and not other.in_flight:
                other.seconds *= 1.0 - _FORGET_IDLE
        self._tokens = min(_TOKENS, self._tokens + self.retry_share)

    def failed(self, index: int, now: float) -> None:
        """A call failed by its fault."""
        replica = self.replicas[index]
        replica.failures += 1
        beyond = replica.failures - self.failures
        if beyond >= 0:
            replica.closed_until = now + min(self.max_pause_s, self.pause_s * 2.0 ** min(beyond, 30))

    def may_retry(self) -> bool:
        """Takes the price of one retry, if it is there."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
