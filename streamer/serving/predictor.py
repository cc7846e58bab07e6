"""Scoring calls to TensorFlow Serving, with retries and circuit breakers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Any

import numpy as np
import structlog
from structlog.typing import FilteringBoundLogger

from streamer.errors import PredictError, VersionGoneError
from streamer.metrics import Metrics
from streamer.serving.control import Control
from streamer.serving.messages import read_scores, score_call
from streamer.serving.replicas import Replicas
from streamer.serving.servers import Connect, Servers
from streamer.serving.splitting import Part, Positions, halves, pieces
from streamer.serving.traced_calls import predict
from streamer.settings.sections import PredictorSettings
from streamer.types import F32, BatchInputs, ModelVersion, ScoreOutput

# Concurrent calls for one batch, if the model takes fewer rows than the batch has.
_PARALLEL_PIECES = 4
# From this share of scores that are not valid on, a reply counts as a failure; its valid scores are used all the same.
_BROKEN_SHARE = 0.5
_REQUESTS_FAULT = frozenset({"INVALID_ARGUMENT", "OUT_OF_RANGE"})
_FINAL = frozenset({"MESSAGE_TOO_LARGE", "CANCELLED", "CLOSED"})
# A call that has waited for a full server needs at least this many latencies.
_TIME_AFTER_WAIT = 1.5
# Without another server, these may succeed on the same one: over a new connection if the old one was lost, and for
# NOT_FOUND on another server behind the same name.
_RETRIED_ALONE = frozenset({"UNAVAILABLE", "INTERNAL", "UNKNOWN", "ABORTED", "INVALID_REPLY", "NOT_FOUND"})
_Call = Callable[..., Awaitable[F32]]


class Predictor:
    """A client of the model servers that `predictor.addresses` names.

    Every call has a timeout. A failed call is retried on another server, or on the same one if there is no other, while
    its time and the retry budget last. One that a full server has rejected is sent again after a short wait, while its
    time lasts. A server gets no calls of a version while the version's circuit there is open.

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
        *,
        replicas: Replicas | None = None,
        connect: Connect | None = None,
    ) -> None:
        """`replicas`: those of the settings, with their own limits; `connect` makes channels."""
        self._metrics = metrics or Metrics()
        self._clock = clock
        self._log: FilteringBoundLogger = log or structlog.get_logger()
        self._servers = Servers(settings, self._metrics, clock, self._log, replicas=replicas, connect=connect)
        self.control = Control(self._servers, settings.control_timeout_ms / 1e3)

    def concurrency_limit(self) -> int:
        """The concurrent calls that the servers allow together, if no call must run alone."""
        return self._servers.replicas.calls

    def calls_allowed(self) -> int:
        """The concurrent calls that are allowed now."""
        return self._servers.replicas.calls_now

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

        async def score_one(at: Positions, part: BatchInputs) -> None:
            try:
                ctr[at] = await self._score_piece(version, part, deadline)
            except PredictError as error:
                failures.append(error)

        active: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:
            for at, part in parts:
                while active and (len(active) == _PARALLEL_PIECES or not self._servers.replicas.has_room):
                    _, active = await asyncio.wait(active, return_when=asyncio.FIRST_COMPLETED)
                active.add(group.create_task(score_one(at, part)))
                await asyncio.sleep(0)  # its call starts, and counts
        if len(failures) == len(parts):
            raise failures[0]
        for failure in failures:
            self._metrics.predict_failed(version.name, failure.code)
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
        call = partial(self._call, version, score_call(version, inputs), inputs.rows)
        tried, failures = set[str](), list[PredictError]()
        blamed_request: list[tuple[str, PredictError]] = []
        for _ in range(max(2, len(self._servers.channels))):
            if replicas.pick(version, self._clock(), tried) is None:
                break
            if failures:
                # The version is elsewhere: this is no failure of a server, and needs no budget.
                is_elsewhere = isinstance(failures[-1], VersionGoneError) and bool(tried)
                if not is_elsewhere and not replicas.take_retry(version.name):
                    break
                self._metrics.predict_retries.inc()
            address, found = await self._accepted_call(version, call, deadline, tried)
            if not isinstance(found, PredictError):
                # Another server took the request: the fault was not the request's.
                for server, rejection in blamed_request:
                    self._servers.failed(version, server, PredictError("REJECTED_ALONE", rejection.detail))
                return found
            if address is None:
                if all(isinstance(failure, VersionGoneError) for failure in failures):
                    failures.append(found)
                break
            failures.append(found)
            if found.code in _FINAL:
                break
            if found.code in _REQUESTS_FAULT:
                blamed_request.append((address, found))
            if replicas.holders(version) != [address] or found.code not in _RETRIED_ALONE:
                tried.add(address)
        raise _main_failure(failures) or self._no_server(version)

    async def _accepted_call(
        self, version: ModelVersion, call: _Call, deadline: float, tried: Collection[str]
    ) -> tuple[str | None, F32 | PredictError]:
        """Calls a server that was not tried, until one accepts the call.

        While another server has room it is called at once, else the full one after a wait. A rejected call has cost the
        server nothing, so it needs no retry budget.

        Returns:
            The server with the scores or its failure; without a server, the reason why none could be called in time.
        """
        replicas = self._servers.replicas
        full: set[str] = set()  # servers that have rejected the call since its last wait
        rejection: PredictError | None = None
        waits = 0
        while (left := deadline - (now := self._clock())) > 0:
            address = replicas.pick(version, now, {*tried, *full})
            wait_s = replicas.wait_s(address, full, now, waits=waits, left=left)
            if wait_s:
                waits += 1
                if left - wait_s < _TIME_AFTER_WAIT * replicas.latency_s(version):
                    return None, rejection or PredictError("RESOURCE_EXHAUSTED", "the server is full")
                await asyncio.sleep(wait_s)
                full.clear()
            elif address is None:
                return None, rejection or self._no_server(version)
            else:
                try:
                    return address, await call(address, left, again=rejection is not None)
                except PredictError as error:
                    if error.code != "RESOURCE_EXHAUSTED":
                        return address, error.after(rejection)
                    rejection = error
                    full.add(address)
        return None, rejection or PredictError("DEADLINE_EXCEEDED", "no time was left for the call")

    def _no_server(self, version: ModelVersion) -> PredictError:
        code = self._servers.replicas.rejection(version)
        return PredictError(code, f"the circuit of every server is open for {version}")

    async def score_shadow(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32:
        """Scores n rows without a retry and an effect on circuits. Raises PredictError as `score`."""
        address = self._servers.replicas.pick(version, self._clock())
        if address is None:
            raise PredictError("UNAVAILABLE", f"the circuit of every server is open for {version}")
        # Its server may be removed between two parts.
        deadline, channel = self._clock() + seconds, self._servers.channels[address]
        scores = []
        for _, part in pieces(inputs, version):
            request, output = score_call(version, part)
            reply = await channel.call("Predict", request, deadline - self._clock())
            scores.append(read_scores(reply, output, part.rows).usable())
        return np.concatenate(scores)

    async def close(self) -> None:
        """Closes the channels and cancels active calls."""
        await self._servers.close()

    async def _call(
        self,
        version: ModelVersion,
        message: tuple[Any, ScoreOutput],
        rows: int,
        address: str,
        seconds: float,
        *,
        again: bool,
    ) -> F32:
        """Calls one server once; records the outcome for circuit, limit and mean latency.

        `message`: the request, and its output with the scores. `again`: a full server has rejected it before.
        """
        servers, (request, output) = self._servers, message
        start = self._clock()
        active = servers.replicas.started(version, address, rejected=again)
        try:
            found = read_scores(await predict(servers.channels[address], request, seconds), output, rows)
            for reason, count in found.invalid.items():
                self._count_invalid(version, reason, count, rows, address=address)
            ctr = found.usable()
        except PredictError as error:
            if error.code == "RESOURCE_EXHAUSTED":
                servers.rejected(address, active)
            elif error.code == "DEADLINE_EXCEEDED":
                servers.replicas.replied(active, version, rows, self._clock() - start, self._clock())
            servers.failed(version, address, error)
            raise
        finally:
            servers.replicas.ended(active)
        invalid = sum(found.invalid.values())
        now = self._clock()
        if invalid < _BROKEN_SHARE * rows:
            servers.succeeded(version, address, now - start)
            servers.replicas.replied(active, version, rows, now - start, now)
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
