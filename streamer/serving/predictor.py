"""Scoring calls to TensorFlow Serving, with retries and circuit breakers."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import structlog
from structlog.typing import FilteringBoundLogger

from streamer.errors import PredictError, VersionGoneError
from streamer.metrics import Metrics
from streamer.serving.control import Control
from streamer.serving.messages import read_scores, score_request
from streamer.serving.servers import Servers
from streamer.serving.splitting import Part, halves, pieces
from streamer.settings.sections import PredictorSettings
from streamer.types import F32, BatchInputs, ModelVersion, ScoreOutput

# Concurrent calls for one batch, if the model takes fewer rows than the batch has.
_PARALLEL_PIECES = 4
# From this share of scores that are not valid on, a reply counts as a failure; its valid scores are used all the same.
_BROKEN_SHARE = 0.5
_REQUESTS_FAULT = frozenset({"INVALID_ARGUMENT", "OUT_OF_RANGE"})
_FINAL = frozenset({"MESSAGE_TOO_LARGE", "CANCELLED", "CLOSED"})
# Without another server, these may succeed on the same one: over a new connection if the old one was lost, and for
# NOT_FOUND on another server behind the same name.
_RETRIED_ALONE = frozenset({"UNAVAILABLE", "INTERNAL", "UNKNOWN", "ABORTED", "INVALID_REPLY", "NOT_FOUND"})


class Predictor:
    """A client of the model servers that `predictor.addresses` names.

    Every call has a timeout. A failed call is retried on another server, or on the same one if there is no other, while
    its time and the retry budget last. A server gets no calls of a version while the version's circuit there is open.

    Needs a running event loop; grpc.aio supports one event loop per process.

    Attributes:
        control: calls about versions, over the same channels.
    """

    def __init__(
        self,
        settings: PredictorSettings,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.monotonic,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._clock = clock
        self._log: FilteringBoundLogger = log or structlog.get_logger()
        self._servers = Servers(settings, self._metrics, clock, self._log)
        self.control = Control(self._servers, settings.control_timeout_ms / 1e3)

    async def score(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32:
        """Scores n rows within `seconds`.

        A request that the model rejects does not fail the others of its batch. A model that takes a fixed number of
        rows gets the batch in several calls.

        Returns:
            Click probabilities, float32 [n], all in [0, 1] or NaN: the model has no valid score for that row.

        Raises:
            VersionGoneError: no server that answers has the version.
            BadReplyError: the number or the dtype of the scores is wrong, or none of them is in [0, 1].
            PredictError: the servers are unreachable, overloaded or too slow, or every circuit is open.
        """
        deadline = self._clock() + seconds
        parts = pieces(inputs, version)
        if len(parts) == 1:
            return await self._score_piece(version, inputs, deadline)
        return await self._score_pieces(version, inputs.rows, parts, deadline)

    async def _score_pieces(self, version: ModelVersion, rows: int, parts: Sequence[Part], deadline: float) -> F32:
        """Scores a batch in parts; a part that fails has no scores. Raises if all of them fail."""
        ctr, failures = np.full(rows, np.nan, dtype=np.float32), list[PredictError]()
        left = iter(parts)

        async def score_some() -> None:
            for at, part in left:
                try:
                    ctr[at] = await self._score_piece(version, part, deadline)
                except PredictError as error:
                    failures.append(error)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(_PARALLEL_PIECES, len(parts))):
                group.create_task(score_some())
        if len(failures) == len(parts):
            raise failures[0]
        return ctr

    async def _score_piece(self, version: ModelVersion, inputs: BatchInputs, deadline: float) -> F32:
        """Scores rows that the model takes in one call."""
        try:
            return await self._score(version, inputs, deadline)
        except PredictError as error:
            if error.code not in _REQUESTS_FAULT:
                raise
            return await self._score_apart(version, inputs, deadline, error)

    async def _score_apart(
        self, version: ModelVersion, inputs: BatchInputs, deadline: float, rejection: PredictError
    ) -> F32:
        """Scores the halves of a rejected batch apart, as far as the retry budget lasts."""
        take_retry = self._servers.replicas.take_retry
        if len(inputs.request_ids) < 2 or not (take_retry(version.name) and take_retry(version.name)):
            raise rejection
        self._metrics.predict_retries.inc(2)
        parts = halves(inputs)
        calls = (self._score_piece(version, part, deadline) for _, part in parts)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        ctr = np.full(inputs.rows, np.nan, dtype=np.float32)
        for (rows, part), outcome in zip(parts, outcomes, strict=True):
            if not isinstance(outcome, BaseException):
                ctr[rows] = outcome
            elif not isinstance(outcome, PredictError):
                raise outcome
            elif len(part.request_ids) == 1 and outcome.code in _REQUESTS_FAULT:
                self._count_invalid(version, "rejected", len(rows), inputs.rows, error=str(outcome))
        if all(isinstance(outcome, PredictError) for outcome in outcomes):
            raise rejection
        return ctr

    async def _score(self, version: ModelVersion, inputs: BatchInputs, deadline: float) -> F32:
        """Scores all rows in one call, with retries."""
        replicas = self._servers.replicas
        request, output = score_request(version, inputs)
        tried: set[str] = set()
        failures: list[PredictError] = []
        blamed_request: list[tuple[str, PredictError]] = []
        for _ in range(max(2, len(self._servers.channels))):
            left = deadline - self._clock()
            if left <= 0:
                failures = failures or [PredictError("DEADLINE_EXCEEDED", "no time was left for the call")]
                break
            address = replicas.pick(version, self._clock(), tried)
            if address is None:
                break
            if failures:
                # The version is elsewhere: this is no failure of a server, and needs no budget.
                is_elsewhere = isinstance(failures[-1], VersionGoneError) and bool(tried)
                if not is_elsewhere and not replicas.take_retry(version.name):
                    break
                self._metrics.predict_retries.inc()
            try:
                ctr = await self._call(version, address, request, output, rows=inputs.rows, seconds=left)
            except PredictError as error:
                failures.append(error)
                if error.code in _FINAL:
                    break
                if error.code in _REQUESTS_FAULT:
                    blamed_request.append((address, error))
                if replicas.holders(version) != [address] or error.code not in _RETRIED_ALONE:
                    tried.add(address)
            else:
                # Another server took the request: the fault was not the request's.
                for server, rejection in blamed_request:
                    self._servers.failed(version, server, PredictError("REJECTED_ALONE", rejection.detail))
                return ctr
        raise _main_failure(failures) or PredictError(
            replicas.rejection(version), f"the circuit of every server is open for {version}"
        )

    async def score_shadow(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32:
        """Scores n rows without a retry and without an effect on circuits.

        Raises:
            PredictError: as `score` does.
        """
        address = self._servers.replicas.pick(version, self._clock())
        if address is None:
            raise PredictError("UNAVAILABLE", f"the circuit of every server is open for {version}")
        deadline = self._clock() + seconds
        scores = []
        for _, part in pieces(inputs, version):
            request, output = score_request(version, part)
            reply = await self._servers.channels[address].call("Predict", request, deadline - self._clock())
            scores.append(read_scores(reply, output, part.rows).usable())
        return np.concatenate(scores)

    async def close(self) -> None:
        """Closes the channels and cancels active calls."""
        await self._servers.close()

    async def _call(
        self, version: ModelVersion, address: str, request: Any, output: ScoreOutput, *, rows: int, seconds: float
    ) -> F32:
        """Calls one server once and records the outcome for its circuit and its mean latency."""
        servers = self._servers
        start = self._clock()
        active = servers.replicas.started(version, address)
        try:
            found = read_scores(await servers.channels[address].call("Predict", request, seconds), output, rows)
            for reason, count in found.invalid.items():
                self._count_invalid(version, reason, count, rows, address=address)
            ctr = found.usable()
        except PredictError as error:
            servers.failed(version, address, error)
            raise
        finally:
            servers.replicas.ended(active)
        invalid = sum(found.invalid.values())
        if invalid < _BROKEN_SHARE * rows:
            servers.succeeded(version, address, self._clock() - start)
        else:
            servers.failed(version, address, PredictError("INVALID_REPLY", f"{invalid} of {rows} scores not in [0, 1]"))
        return ctr

    def _count_invalid(self, version: ModelVersion, reason: str, count: int, rows: int, **details: str) -> None:
        self._metrics.invalid_scores.labels(version.name, reason).inc(count)
        self._log.warning("scores not valid", model=str(version), reason=reason, count=count, rows=rows, **details)


def _main_failure(failures: Sequence[PredictError]) -> PredictError | None:
    """The failure to report, the last one.

    If a server lacks the version, it is VersionGoneError, unless another server has the version and failed.
    """
    if not failures:
        return None
    gone = next((f for f in failures if isinstance(f, VersionGoneError)), None)
    answered = [f for f in failures if f.code not in ("NOT_FOUND", "UNAVAILABLE", "DEADLINE_EXCEEDED")]
    return failures[-1] if gone is None else (answered or [gone])[-1]
