"""Several servers of one model: load balancing, circuit breakers and the retry budget. Pure."""

from collections.abc import Collection
from dataclasses import dataclass

from streamer.settings.sections import PredictorSettings

# Codes of failures that a server causes; other codes are about the request or the version.
SERVER_FAULTS = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNKNOWN", "INVALID_REPLY"}
)
_LATENCY_WEIGHT = 0.1
_IDLE_DECAY = 0.001
_MAX_RETRY_TOKENS = 10.0


@dataclass(slots=True)
class Replica:
    """The state of one server.

    Attributes:
        active_calls: calls without a reply yet.
        latency_s: mean latency of recent calls, which decays while the server gets none; 0 before the first reply.
        failures: consecutive failures.
        circuit_open_until: when an open circuit lets the next call pass, monotonic seconds; 0: the circuit is closed.
    """

    active_calls: int = 0
    latency_s: float = 0.0
    failures: int = 0
    circuit_open_until: float = 0.0

    @property
    def circuit_open(self) -> bool:
        """Whether the circuit is open; it stays open until a call succeeds."""
        return self.circuit_open_until > 0

    def may_call(self, now: float) -> bool:
        """Whether it may get a call now; after its pause an open circuit lets one at a time pass."""
        return not self.circuit_open or (now >= self.circuit_open_until and not self.active_calls)


class Replicas:
    """Chooses the server of each call, opens and closes circuits, and limits retries.

    Rules:
    1. A call goes to the server with the lowest (active calls + 1) × mean latency.
    2. The mean latency of an idle server decays while others reply. Only a new call shows that the server has become
       faster, and one slow reply must not exclude it for good.
    3. After `circuit_failures` consecutive failures the circuit opens for `circuit_open_ms`, then lets one call pass.
       Each further failure doubles the pause, up to `circuit_max_open_ms`. A success closes the circuit.
    4. Each success earns `retry_share` of a retry, so retries never add much load to a server that fails.
    """

    def __init__(self, settings: PredictorSettings) -> None:
        self._settings = settings
        self._retry_tokens = _MAX_RETRY_TOKENS
        self.replicas = [Replica() for _ in settings.addresses]

    def pick(self, now: float, tried: Collection[int] = ()) -> int | None:
        """The index of the server for the next call; None: each was tried or has an open circuit."""
        replicas = self.replicas
        callable_now = (i for i, replica in enumerate(replicas) if i not in tried and replica.may_call(now))
        return min(callable_now, key=lambda i: (replicas[i].active_calls + 1) * replicas[i].latency_s, default=None)

    def started(self, index: int) -> None:
        """A call was sent."""
        self.replicas[index].active_calls += 1

    def ended(self, index: int) -> None:
        """A call ended, with or without a reply."""
        self.replicas[index].active_calls -= 1

    def succeeded(self, index: int, seconds: float) -> None:
        """A call had a valid reply after `seconds`."""
        replica = self.replicas[index]
        replica.failures = 0
        replica.circuit_open_until = 0.0
        replica.latency_s += (seconds - replica.latency_s) * (_LATENCY_WEIGHT if replica.latency_s else 1.0)
        for other in self.replicas:
            if other is not replica and not other.active_calls:
                other.latency_s *= 1.0 - _IDLE_DECAY
        self._retry_tokens = min(_MAX_RETRY_TOKENS, self._retry_tokens + self._settings.retry_share)

    def failed(self, index: int, now: float) -> None:
        """A call failed by a fault of its server."""
        replica, settings = self.replicas[index], self._settings
        replica.failures += 1
        beyond = replica.failures - settings.circuit_failures
        if beyond >= 0:
            pause_ms = min(settings.circuit_max_open_ms, settings.circuit_open_ms * 2.0 ** min(beyond, 30))
            replica.circuit_open_until = now + pause_ms / 1e3

    def take_retry(self) -> bool:
        """Takes one retry from the budget; False if less than one is left."""
        if self._retry_tokens < 1.0:
            return False
        self._retry_tokens -= 1.0
        return True
