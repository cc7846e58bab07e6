"""The versions on each server: load balancing, circuits and the retry budget. Pure."""

import random
from collections.abc import Callable, Collection, Iterable, Mapping

from streamer.serving.concurrency import ConcurrencyLimit
from streamer.serving.server_states import ActiveCall, Replica, Server
from streamer.settings.sections import BatchingSettings, PredictorSettings
from streamer.types import ModelVersion

# Codes of failures that say nothing about the server: the request's fault, a full server, a version that it lacks, our
# own end. Every other code counts for the circuit, because a server that fails at once looks idle.
_NO_FAULT_OF_THE_SERVER = frozenset(
    {"INVALID_ARGUMENT", "OUT_OF_RANGE", "MESSAGE_TOO_LARGE", "RESOURCE_EXHAUSTED", "NOT_FOUND", "CANCELLED", "CLOSED"}
)
# Failures that may be the version's own; the others are about the server or the connection.
_OF_THE_VERSION = frozenset({"FAILED_PRECONDITION", "INTERNAL", "INVALID_REPLY", "UNIMPLEMENTED"})
_LATENCY_WEIGHT = 0.1
_IDLE_DECAY = 0.001
_MAX_RETRY_TOKENS = 10.0
# A call that a full server has rejected waits for a part of a latency in this range, or of this many seconds if none is
# known, so that it gets the next free thread soon, and calls of several workers do not meet again.
_RETRY_WAIT = (0.1, 0.4)
_UNKNOWN_LATENCY_S = 0.005
_MIN_WAIT_S = 0.0005
# After so many waits of a call each one is twice as long, up to these seconds and to this share of the time left: a
# server that rejects for long is not called all the time.
_SHORT_WAITS, _LONGEST_WAIT_S, _WAIT_SHARE = 10, 0.25, 0.25
# A version without calls for this time is forgotten, with its circuits.
_KEPT_S = 60.0


def opens_circuit(code: str) -> bool:
    """Whether a failure with this code counts for the circuit of its server and version."""
    return code not in _NO_FAULT_OF_THE_SERVER


class Replicas:
    """Chooses the server of each call, opens and closes circuits, and limits retries.

    Rules:
    1. A version is called on the servers that have it. If every server has reported that it lacks the version, any one
       is asked again.
    2. A call goes to the server with the lowest (active calls + 1) × mean latency of the version. A server whose limit
       of concurrent calls is reached comes last.
    3. The mean latency of an idle server decays while others reply. Only a new call shows that the server has become
       faster, and one slow reply must not exclude it for good.
    4. A circuit belongs to one version on one server. After `circuit_failures` consecutive failures it opens for
       `circuit_open_ms`, then lets one call pass. If that fails, too, the next pause is twice as long, up to
       `circuit_max_open_ms`. Calls that were sent before the circuit opened and fail later do not lengthen the pause:
       they have met the same fault. A success closes the circuit.
    5. Each success of a model earns `retry_share` of a retry for it, so retries never add much load to a server that
       fails.
    """

    def __init__(
        self,
        settings: PredictorSettings,
        max_concurrent_calls: int = BatchingSettings().max_concurrent_calls,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`chance`: a random number in [0, 1)."""
        self._settings = settings
        self._max_concurrent_calls = max_concurrent_calls
        self._chance = chance
        self._retry_tokens: dict[str, float] = {}
        self.servers: dict[str, Server] = {}
        self._replicas: dict[ModelVersion, dict[str, Replica]] = {}
        self._used: dict[ModelVersion, float] = {}
        # By model and address.
        self._reported: dict[str, dict[str, frozenset[int]]] = {}
        self.set_servers(settings.addresses)

    def set_servers(self, addresses: Iterable[str]) -> None:
        """Replaces the servers; those that stay keep their state."""
        self.servers = {
            a: self.servers.get(a) or Server(ConcurrencyLimit(self._max_concurrent_calls)) for a in addresses
        }
        for version, known in self._replicas.items():
            self._replicas[version] = {a: known.get(a) or self._new(version, a) for a in self.servers}

    def of(self, version: ModelVersion) -> Mapping[str, Replica]:
        """The state of a version on each server, by address."""
        if (found := self._replicas.get(version)) is None:
            found = self._replicas[version] = {address: self._new(version, address) for address in self.servers}
        return found

    def holders(self, version: ModelVersion) -> list[str]:
        """The servers that have the version as far as is known; if none has it, all servers."""
        replicas = self.of(version)
        return [a for a, replica in replicas.items() if not replica.is_missing] or list(replicas)

    def pick(self, version: ModelVersion, now: float, tried: Collection[str] = ()) -> str | None:
        """The server for the next call; None: each one was tried or has an open circuit."""
        replicas, servers = self.of(version), self.servers
        self._used[version] = now

        def cost(address: str) -> tuple[bool, float]:
            server = servers[address]
            return not server.has_room, (server.active_calls + 1) * replicas[address].latency_s

        callable_now = (a for a in self.holders(version) if a not in tried and replicas[a].may_call(now))
        return min(callable_now, key=cost, default=None)

    @property
    def calls(self) -> int:
        """The concurrent calls that the servers allow together."""
        return sum(server.limit.calls for server in self._up())

    @property
    def calls_now(self) -> int:
        """The same, while some call must run alone."""
        return sum(server.limit.calls_now for server in self._up())

    @property
    def has_room(self) -> bool:
        """Whether the limit of some server allows one more call."""
        return any(server.has_room for server in self._up())

    def _up(self) -> Collection[Server]:
        servers = self.servers.values()
        return [server for server in servers if not server.is_down] or servers

    def latency_s(self, version: ModelVersion) -> float:
        """The mean latency of the version on its fastest server; 0 before the first reply."""
        replicas = self.of(version)
        return min(replicas[address].latency_s for address in self.holders(version))

    def wait_s(self, address: str | None, full: Collection[str], now: float, *, waits: int, left: float) -> float:
        """Seconds before the picked server may be called; 0: now, or never if there is none.

        `full`: servers that have rejected the call. If no other server has room, the call waits for them. It has waited
        `waits` times before, and has `left` seconds.
        """
        if full and (address is None or not self.servers[address].has_room):
            low, high = _RETRY_WAIT
            latency_s = min((s.latency_s for a, s in self.servers.items() if a in full), default=0.0)
            usual = max(_MIN_WAIT_S, (low + (high - low) * self._chance()) * (latency_s or _UNKNOWN_LATENCY_S))
            longest = max(usual, min(_LONGEST_WAIT_S, left * _WAIT_SHARE))
            return min(longest, usual * 2.0 ** min(max(0, waits - _SHORT_WAITS), 30))
        left = 0.0 if address is None else self.servers[address].ready_at - now
        return left if left > 0 else 0.0

    def started(self, version: ModelVersion, address: str, *, rejected: bool = False) -> ActiveCall:
        """A call was sent; `rejected`: the server has rejected it before."""
        server, replica = self.servers[address], self.of(version)[address]
        alone = not server.active_calls
        for state in (server, replica):
            state.active_calls += 1
        server.started_calls += 1
        replica.is_probed = replica.circuit_open
        if not server.has_room:
            server.full_with = server.started_calls
        return ActiveCall(server, replica, server.started_calls, alone, rejected)

    def ended(self, call: ActiveCall) -> None:
        """A call ended, with or without a reply. Its server may have been removed meanwhile."""
        for state in (call.server, call.replica):
            state.active_calls -= 1

    def rejected(self, call: ActiveCall) -> None:
        """A full server rejected an active call."""
        call.server.limit.rejected(call.server.active_calls, again=call.rejected)

    def replied(self, call: ActiveCall, version: ModelVersion, rows: int, seconds: float, now: float) -> None:
        """An active call was accepted, and ended after `seconds` with a reply or at its timeout."""
        server = call.server
        alone = call.alone and call.number == server.started_calls
        at_limit = server.full_with >= call.number and not call.rejected
        server.limit.replied(version, rows, seconds, alone=alone, at_limit=at_limit)
        server.ready_at = now + 2 * self._chance() * server.limit.pause * server.latency_s

    def succeeded(self, version: ModelVersion, address: str, seconds: float) -> None:
        """A call had a valid reply after `seconds`."""
        tokens = self._retry_tokens.get(version.name, _MAX_RETRY_TOKENS) + self._settings.retry_share
        self._retry_tokens[version.name] = min(_MAX_RETRY_TOKENS, tokens)
        if address not in self.servers:
            return
        replicas, server = self.of(version), self.servers[address]
        replica = replicas[address]
        replica.failures, replica.circuit_open_until, replica.is_missing = 0, 0.0, False
        for mean in (replica, server):
            mean.latency_s += (seconds - mean.latency_s) * (_LATENCY_WEIGHT if mean.latency_s else 1.0)
        server.is_down = False
        for other in replicas.values():
            if other is not replica and not other.active_calls:
                other.latency_s *= 1.0 - _IDLE_DECAY

    def failed(self, version: ModelVersion, address: str, code: str, now: float) -> None:
        """A call failed with this code."""
        if address not in self.servers:
            return
        replica, server = self.of(version)[address], self.servers[address]
        if code == "NOT_FOUND":
            replica.is_missing = True
        if not opens_circuit(code) or (replica.circuit_open and not replica.is_probed):
            return
        replica.failures += 1
        replica.code = code
        beyond = replica.failures - self._settings.circuit_failures
        if beyond >= 0:
            replica.circuit_open_until, replica.is_probed = now + self._pause(beyond), False
            server.is_down = True

    def circuit_open(self, model: str, address: str) -> bool:
        """Whether the circuit of a version of this model is open on the server."""
        return any(v.name == model and of[address].circuit_open for v, of in self._replicas.items())

    def rejection(self, version: ModelVersion) -> str:
        """The code of a call for which `pick` finds no server.

        It is that of the version's failures if only they opened the circuits, so that a new version is judged by them.
        """
        codes = {self.of(version)[address].code for address in self.holders(version)}
        return min(codes) if codes and codes <= _OF_THE_VERSION else "UNAVAILABLE"

    def report(self, model: str, versions: Mapping[str, frozenset[int]], now: float) -> None:
        """Takes over the versions of a model on the servers, by address; forgets unused ones."""
        known = self._reported.setdefault(model, {})
        known |= versions
        for address in known.keys() - self.servers.keys():
            del known[address]
        for version in [v for v in self._replicas if v.name == model]:
            replicas = self._replicas[version]
            for address in versions.keys() & replicas.keys():
                replicas[address].is_missing = version.version not in versions[address]
            is_active = any(replica.active_calls for replica in replicas.values())
            if not is_active and now - self._used.get(version, now) > _KEPT_S:
                del self._replicas[version], self._used[version]

    def take_retry(self, model: str) -> bool:
        """Takes one retry from the budget of a model; False if less than one is left."""
        tokens = self._retry_tokens.get(model, _MAX_RETRY_TOKENS)
        if tokens < 1.0:
            return False
        self._retry_tokens[model] = tokens - 1.0
        return True

    def _pause(self, number: int) -> float:
        """The seconds of the pause after this number of pauses."""
        settings = self._settings
        return min(settings.circuit_max_open_ms, settings.circuit_open_ms * 2.0 ** min(number, 30)) / 1e3

    def _new(self, version: ModelVersion, address: str) -> Replica:
        """The state of a version that has had no call on the server."""
        reported = self._reported.get(version.name, {}).get(address)
        is_missing = reported is not None and version.version not in reported
        return Replica(self.servers[address].latency_s, is_missing=is_missing)
