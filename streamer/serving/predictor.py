"""Scoring calls to TensorFlow Serving over gRPC, with retries and circuit breakers."""

import time
from collections.abc import Callable
from typing import Any

from streamer.errors import PredictError, VersionGoneError
from streamer.metrics import Metrics
from streamer.serving.channel import connect
from streamer.serving.control import Control
from streamer.serving.messages import read_scores, score_request
from streamer.serving.replicas import SERVER_FAULTS, Replicas
from streamer.settings.sections import PredictorSettings
from streamer.types import F32, BatchInputs, ModelVersion

_ALL_OPEN = "the circuit of every server is open"


class Predictor:
    """A client of the model servers that `predictor.addresses` names.

    Every call has a timeout. A failed call is retried on another server, or on the same one if there is no other, while
    its time and the retry budget last. A server with an open circuit gets no calls.

    Needs a running event loop; grpc.aio supports one event loop per process.

    Attributes:
        control: calls about versions, over the same channels.
    """

    def __init__(
        self, settings: PredictorSettings, metrics: Metrics | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._metrics = metrics or Metrics()
        self._clock = clock
        self._channels = connect(settings)
        self._replicas = Replicas(settings)
        self.control = Control(self._channels, settings.control_timeout_ms / 1e3)

    async def score(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32:
        """Scores n rows within `seconds`.

        Returns:
            Click probabilities, float32 [n], all in [0, 1].

        Raises:
            VersionGoneError: no server that answers has the version.
            BadReplyError: the number, dtype or range of the scores is wrong.
            PredictError: the servers are unreachable, overloaded or too slow, or every circuit is open.
        """
        deadline = self._clock() + seconds
        request, output = score_request(version, inputs)
        tried: set[int] = set()
        failure: PredictError | None = None
        for _ in range(max(2, len(self._channels))):
            left = deadline - self._clock()
            if left <= 0:
                raise failure or PredictError("DEADLINE_EXCEEDED", "no time was left for the call")
            index = self._replicas.pick(self._clock(), tried)
            if index is None:
                break
            if failure is not None:
                if failure.code in SERVER_FAULTS and not self._replicas.take_retry():
                    break
                self._metrics.predict_retries.inc()
            try:
                return await self._call(index, request, output, rows=inputs.rows, seconds=left)
            except PredictError as error:
                failure = error
                # Another server may have the version; a fault of the request would fail on every server.
                if error.code not in SERVER_FAULTS and not isinstance(error, VersionGoneError):
                    break
                # A single server gets the retry too, over a new connection if the old one was lost.
                if len(self._channels) > 1 or isinstance(error, VersionGoneError):
                    tried.add(index)
        raise failure or PredictError("UNAVAILABLE", _ALL_OPEN)

    async def score_shadow(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32:
        """Scores n rows in one call, without a retry and without an effect on circuits.

        Raises:
            PredictError: as `score` does.
        """
        index = self._replicas.pick(self._clock())
        if index is None:
            raise PredictError("UNAVAILABLE", _ALL_OPEN)
        request, output = score_request(version, inputs)
        return read_scores(await self._channels[index].call("Predict", request, seconds), output, inputs.rows)

    async def close(self) -> None:
        """Closes the channels and cancels active calls."""
        for channel in self._channels:
            await channel.close()

    async def _call(self, index: int, request: Any, output: str, *, rows: int, seconds: float) -> F32:
        """Calls one server once and records the outcome for its circuit and its mean latency."""
        replicas, channel = self._replicas, self._channels[index]
        start = self._clock()
        replicas.started(index)
        try:
            ctr = read_scores(await channel.call("Predict", request, seconds), output, rows)
        except PredictError as error:
            if error.code in SERVER_FAULTS:
                replicas.failed(index, self._clock())
            raise
        else:
            replicas.succeeded(index, self._clock() - start)
            return ctr
        finally:
            replicas.ended(index)
            self._metrics.set_circuit(channel.address, is_open=replicas.replicas[index].circuit_open)
