"""The model servers: a channel to each, and their health, with its metrics and logs."""

import asyncio
import os
from collections.abc import Callable, Mapping

from structlog.typing import FilteringBoundLogger

from streamer.errors import PredictError
from streamer.metrics import Metrics
from streamer.serving.channel import Connector
from streamer.serving.messages import INVALID
from streamer.serving.names import LookUp, Name, host_and_port, look_up
from streamer.serving.proxies import proxy_variable
from streamer.serving.replicas import Replicas
from streamer.serving.server_states import ActiveCall
from streamer.serving.transport import Channel
from streamer.settings.sections import PredictorSettings
from streamer.types import ModelVersion

# The calls of a server that has been removed may take this long.
_REMOVAL_S = 1.0


Connect = Callable[[str, tuple[str, int] | None], Channel]
"""Makes the channel to an address, and the name that led to it."""


class Servers:
    """The channels by address, and the state of each version on each server.

    - Each address behind a `dns:///` name is a server. The name itself is one until it is resolved.
    - A circuit that opens or closes is logged with server, version and error; the metric names server and model.
    """

    def __init__(
        self,
        settings: PredictorSettings,
        metrics: Metrics,
        clock: Callable[[], float],
        log: FilteringBoundLogger,
        look_up: LookUp = look_up,
        *,
        replicas: Replicas | None = None,
        connect: Connect | None = None,
    ) -> None:
        """Raises ConfigError if a TLS file cannot be read."""
        self.clock = clock
        self._settings = settings
        self._connect: Connect = connect or Connector(settings).channel
        # A proxy resolves the names of its servers itself.
        resolved = [a for a in settings.addresses if host_and_port(a) and not proxy_variable(a, os.environ)]
        self._names = {address: Name(address, look_up) for address in resolved}
        self.channels: Mapping[str, Channel] = {a: self._connect(a, None) for a in settings.addresses}
        self.replicas = replicas or Replicas(settings)
        self._metrics = metrics
        self._log = log
        for model in settings.models:
            for reason in (*INVALID, "rejected"):
                metrics.invalid_scores.labels(model, reason)
            for address in self.channels:
                self._show(model, address)

    def succeeded(self, version: ModelVersion, address: str, seconds: float) -> None:
        """A call had a valid reply after `seconds`."""
        was_open = self._is_open(version, address)
        self.replicas.succeeded(version, address, seconds)
        if was_open:
            self._log.info("circuit closed", address=address, model=str(version))
            self._show(version.name, address)

    def rejected(self, address: str, call: ActiveCall) -> None:
        """A full server rejected an active call."""
        self.replicas.rejected(call)
        self._metrics.rejections.labels(address).inc()

    def failed(self, version: ModelVersion, address: str, error: PredictError) -> None:
        """A call failed."""
        was_open = self._is_open(version, address)
        self.replicas.failed(version, address, error.code, self.clock())
        if not was_open and self._is_open(version, address):
            self._log.warning("circuit open", address=address, model=str(version), error=str(error))
        self._show(version.name, address)

    def report(self, model: str, versions: Mapping[str, frozenset[int]]) -> None:
        """Takes over the versions of a model that servers, by address, have reported."""
        self.replicas.report(model, versions, self.clock())
        for address in self.channels:
            self._show(model, address)

    async def resolve(self, timeout_s: float) -> None:
        """Looks the names up if it is time, and connects to the addresses that they lead to now."""
        await asyncio.gather(*(name.refresh(self.clock(), timeout_s) for name in self._names.values()))
        wanted: dict[str, tuple[str, int] | None] = {}
        for address in self._settings.addresses:
            name = self._names.get(address)
            if name is not None and name.error is not None:
                self._log.warning("model servers not found", name=address, error=name.error)
            addresses = sorted(name.addresses) if name is not None else ()
            wanted |= dict.fromkeys(addresses, host_and_port(address)) if addresses else {address: None}
        await self._replace(wanted)

    async def _replace(self, wanted: Mapping[str, tuple[str, int] | None]) -> None:
        """Connects to new addresses, and closes the channels to the others."""
        old = self.channels
        if wanted.keys() == old.keys():
            return
        self.channels = {a: old.get(a) or self._connect(a, name) for a, name in wanted.items()}
        self.replicas.set_servers(wanted)
        removed = sorted(old.keys() - wanted)
        for model in self._settings.models:
            for address in removed:
                self._metrics.remove_circuit(address, model)
            for address in wanted:
                self._show(model, address)
        self._log.info("model servers changed", added=sorted(wanted.keys() - old), removed=removed)
        for address in removed:
            await old[address].close(_REMOVAL_S)

    async def close(self) -> None:
        """Closes the channels and cancels active calls."""
        for name in self._names.values():
            name.close()
        for channel in self.channels.values():
            await channel.close()

    def _is_open(self, version: ModelVersion, address: str) -> bool:
        replica = self.replicas.of(version).get(address)
        return replica is not None and replica.circuit_open

    def _show(self, model: str, address: str) -> None:
        if address in self.channels:
            self._metrics.set_circuit(address, model, is_open=self.replicas.circuit_open(model, address))
