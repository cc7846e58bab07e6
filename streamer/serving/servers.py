"""The model servers: a channel to each, and their health, with its metrics and logs."""

from collections.abc import Callable, Mapping

from structlog.typing import FilteringBoundLogger

from streamer.errors import PredictError
from streamer.metrics import Metrics
from streamer.serving.channel import Channel, connect
from streamer.serving.messages import INVALID
from streamer.serving.replicas import Replicas
from streamer.settings.sections import PredictorSettings
from streamer.types import ModelVersion


class Servers:
    """The channels by address, and the state of each version on each server.

    A circuit that opens or closes is logged with server, version and error; the metric names server and model.
    """

    def __init__(
        self, settings: PredictorSettings, metrics: Metrics, clock: Callable[[], float], log: FilteringBoundLogger
    ) -> None:
        self.clock = clock
        self.channels: Mapping[str, Channel] = {channel.address: channel for channel in connect(settings)}
        self.replicas = Replicas(settings)
        self._metrics = metrics
        self._log = log
        for model in settings.models:
            for reason in INVALID:
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

    async def close(self) -> None:
        """Closes the channels and cancels active calls."""
        for channel in self.channels.values():
            await channel.close()

    def _is_open(self, version: ModelVersion, address: str) -> bool:
        replica = self.replicas.of(version).get(address)
        return replica is not None and replica.circuit_open

    def _show(self, model: str, address: str) -> None:
        self._metrics.set_circuit(address, model, is_open=self.replicas.circuit_open(model, address))
