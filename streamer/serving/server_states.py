"""The state of a server, of a version on it, and of an active call. Pure."""

from dataclasses import dataclass

from streamer.serving.concurrency import ConcurrencyLimit


@dataclass(slots=True)
class Server:
    """The state of one server.

    Attributes:
        limit: its limit of concurrent calls.
        active_calls: calls of all versions without a reply yet; started_calls: all so far.
        full_with: the number of the latest call with which the limit was reached.
        latency_s: mean latency of recent calls; 0 before the first reply.
        ready_at: the pause before the next call ends, monotonic seconds.
        is_down: its last failure opened a circuit.
    """

    limit: ConcurrencyLimit
    active_calls: int = 0
    started_calls: int = 0
    full_with: int = 0
    latency_s: float = 0.0
    ready_at: float = 0.0
    is_down: bool = False

    @property
    def has_room(self) -> bool:
        """Whether the limit allows one more call."""
        return self.active_calls < self.limit.calls_now


@dataclass(slots=True)
class Replica:
    """The state of one version on one server.

    Attributes:
        active_calls: calls without a reply yet.
        latency_s: mean latency of recent calls, which decays while there are none; 0 before the first reply.
        failures: consecutive failures.
        code: the code of the last failure.
        circuit_open_until: when an open circuit lets the next call pass, monotonic seconds; 0: the circuit is closed.
        is_probed: a call was sent since the open circuit's last pause began.
        is_missing: the server has reported that it does not have the version.
    """

    latency_s: float = 0.0
    active_calls: int = 0
    failures: int = 0
    code: str = ""
    circuit_open_until: float = 0.0
    is_probed: bool = False
    is_missing: bool = False

    @property
    def circuit_open(self) -> bool:
        """Whether the circuit is open; it stays open until a call succeeds."""
        return self.circuit_open_until > 0

    def may_call(self, now: float) -> bool:
        """Whether it may get a call now; after its pause an open circuit lets one at a time pass."""
        return not self.circuit_open or (now >= self.circuit_open_until and not self.active_calls)


@dataclass(frozen=True, slots=True)
class ActiveCall:
    """A call that was sent, and the states that count it.

    Attributes:
        number: how many calls its server had got with it.
        alone: no other call was active there when it was sent.
        rejected: the server had rejected it before.
    """

    server: Server
    replica: Replica
    number: int
    alone: bool
    rejected: bool
