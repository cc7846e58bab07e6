"""Rare calls about a model's versions: status, labels, specs, signatures, warm-up."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from streamer.diagnosis.facts import VersionState
from streamer.errors import PredictError, VersionGoneError
from streamer.serving import messages
from streamer.serving.identity import Shown
from streamer.serving.protos import get_model_status_pb2
from streamer.serving.servers import Servers
from streamer.serving.splitting import pieces
from streamer.serving.transport import Channel, Rpc
from streamer.types import Availability, BatchInputs, ModelVersion, ScoreOutput, SignatureInfo

_T = TypeVar("_T")
# Servers that are not expected to answer have this time after the last reply of the others.
_SUSPECTS_S = 0.1
# A full server rejects these calls too. It is asked again after this pause, for this time.
_FULL_PAUSE_S, _FULL_S = 0.02, 0.5
# What TensorFlow Serving answers if it does not know a label or does not have its version.
_NOT_LABELLED = frozenset({"INVALID_ARGUMENT", "NOT_FOUND"})


class Control:
    """Asks all model servers about versions, concurrently, each question once.

    1. Each question has the same timeout.
    2. A failure here does not count for the circuits: a server that loads a version may be slow to answer.
    3. A full server that rejects a call is asked again, for at most 0.5 s.
    4. A server that did not answer before, or on which a circuit of the model is open, does not delay the others.
    """

    def __init__(self, servers: Servers, timeout_s: float) -> None:
        self._servers = servers
        self._timeout_s = timeout_s
        # Servers that have not answered the last question in time.
        self._silent: set[str] = set()

    async def available(self, model: str) -> Availability:
        """The versions that are AVAILABLE on the servers that answer.

        Raises:
            VersionGoneError: no server has the model.
            PredictError: no server answers.
        """
        await self._servers.resolve(self._timeout_s)
        ready = get_model_status_pb2.ModelVersionStatus.AVAILABLE

        def read(reply: Any) -> frozenset[int]:
            return frozenset(status.version for status in reply.model_version_status if status.state == ready)

        request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": model})
        found = await self._call_all(model, "GetModelStatus", request, read)
        versions = {address: reply for address, reply in found.items() if not isinstance(reply, PredictError)}
        lacking = {address for address, reply in found.items() if isinstance(reply, VersionGoneError)}
        self._servers.report(model, versions | dict.fromkeys(lacking, frozenset()))
        if not versions:
            raise _main_failure(_failures(found))
        return Availability.of(versions.values())

    async def labelled(self, model: str, label: str) -> int:
        """The version that a label names on every server that answers.

        Raises:
            PredictError: no server answers, a server does not have the label or its version, or the servers differ.
        """
        # GetModelStatus ignores labels and returns all versions.
        request = messages.metadata_request(name=model, version_label=label)
        found = await self._call_all(model, "GetModelMetadata", request, messages.read_version)
        versions = sorted({version for version in found.values() if not isinstance(version, PredictError)})
        failures = _failures(found)
        rejections = [failure for failure in failures if failure.code in _NOT_LABELLED]
        if rejections or not versions:
            failure = (rejections or failures)[0]
            raise PredictError(failure.code, f"label {label!r} of {model!r}: {failure.detail}")
        if len(versions) > 1:
            differing = ", ".join(map(str, versions))
            raise PredictError("FAILED_PRECONDITION", f"label {label!r} of {model!r} leads to versions {differing}")
        return versions[0]

    async def states(self, model: str) -> Mapping[str, Sequence[VersionState] | PredictError]:
        """The versions that each server knows, or why it does not answer, by address."""
        await self._servers.resolve(self._timeout_s)
        request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": model})
        return await self._call_all(model, "GetModelStatus", request, messages.read_states)

    async def burst(self, model: str, callers: int, seconds: float) -> Mapping[str, Counter[str]]:
        """Asks every server for the model's status, with `callers` concurrent calls, for `seconds`.

        Returns the number of answers by gRPC code, by address.
        """
        request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": model})
        until = self._servers.clock() + seconds

        async def call(channel: Channel, found: Counter[str]) -> None:
            while self._servers.clock() < until:
                try:
                    await channel.call("GetModelStatus", request, self._timeout_s)
                    found["OK"] += 1
                except PredictError as error:
                    found[error.code] += 1

        outcomes = {address: Counter[str]() for address in self._servers.channels}
        async with asyncio.TaskGroup() as group:
            for address, channel in self._servers.channels.items():
                for _ in range(callers):
                    group.create_task(call(channel, outcomes[address]))
        return outcomes

    async def feature_spec(self, version: ModelVersion) -> str:
        """The spec, as JSON, that the version was trained with, from its `feature_spec` signature.

        Raises:
            BadReplyError: the reply holds no spec.
            PredictError: the version has no such signature, or no server answers.
        """
        request = messages.predict_request(version, messages.SPEC, {})
        return messages.read_spec(await self._call_any("Predict", request), version)

    async def signature(self, version: ModelVersion, name: str) -> SignatureInfo:
        """The inputs and outputs of a signature of the version.

        Raises:
            BadReplyError: the version has no such signature.
            PredictError: no server answers.
        """
        request = messages.metadata_request(name=version.name, version={"value": version.version})
        return messages.read_signature(await self._call_any("GetModelMetadata", request), version, name)

    async def show(
        self, version: ModelVersion, inputs: BatchInputs, *, has_spec: bool
    ) -> dict[str, Shown | PredictError]:
        """What each server shows of a version, or its failure, by address.

        `inputs`: the rows that it scores; `has_spec`: whether the version has a spec of its own.
        """
        name = messages.SCORE if version.flat is None else version.flat.name
        metadata = messages.metadata_request(name=version.name, version={"value": version.version})
        calls = [(*messages.score_call(version, part), part.rows) for _, part in pieces(inputs, version)]

        async def show(channel: Channel) -> Shown:
            spec = None
            if has_spec:
                reply = await self._call(channel, "Predict", messages.predict_request(version, messages.SPEC, {}))
                spec = messages.read_spec(reply, version)
            reply = await self._call(channel, "GetModelMetadata", metadata)
            signature = messages.read_signature(reply, version, name)
            scores = []
            for request, output, rows in calls:
                reply = await self._call(channel, "Predict", request)
                scores.append(messages.read_scores(reply, output, rows).usable())
            return Shown(spec, signature, np.concatenate(scores))

        return await self._ask_all(version.name, show)

    async def warm(self, version: ModelVersion, requests: Iterable[BatchInputs]) -> None:
        """Scores requests on every server and discards the scores: a version's first calls are slow.

        All of them have the time of one question: a server that has scored some by then is warm.

        Raises:
            BadReplyError, PredictError: as `Predictor.score`, if on each server more calls fail than succeed.
        """
        calls: list[tuple[Any, ScoreOutput, int]] = []
        for inputs in requests:
            _, part = pieces(inputs, version)[0]
            calls.append((*messages.score_call(version, part), part.rows))
            await asyncio.sleep(0)  # encoding them in one turn would delay the records in flight
        until = self._servers.clock() + self._timeout_s

        async def warm_one(channel: Channel) -> None:
            succeeded, failures = 0, list[PredictError]()
            for request, output, rows in calls:
                if (left := until - self._servers.clock()) <= 0 or 2 * len(failures) > len(calls):
                    break
                try:
                    messages.read_scores(await self._call(channel, "Predict", request, left), output, rows).usable()
                    succeeded += 1
                except PredictError as error:
                    failures.append(error)
            if len(failures) > succeeded:
                raise failures[0]

        found = await self._ask_all(version.name, warm_one)
        if all(isinstance(outcome, PredictError) for outcome in found.values()):
            raise _main_failure(_failures(found))

    async def _call(self, channel: Channel, rpc: Rpc, request: Any, seconds: float | None = None) -> Any:
        """Calls one server, as `Channel.call`, with the timeout of a question or a shorter one."""
        start = self._servers.clock()
        until = start + (self._timeout_s if seconds is None else seconds)
        while True:
            try:
                return await channel.call(rpc, request, until - self._servers.clock())
            except PredictError as error:
                again_at = self._servers.clock() + _FULL_PAUSE_S
                if error.code != "RESOURCE_EXHAUSTED" or again_at > min(start + _FULL_S, until):
                    raise
            await asyncio.sleep(_FULL_PAUSE_S)

    async def _call_all(
        self, model: str, rpc: Rpc, request: Any, read: Callable[[Any], _T]
    ) -> dict[str, _T | PredictError]:
        """Calls every server; returns `read(reply)` or the failure by address."""

        async def one(channel: Channel) -> _T:
            return read(await self._call(channel, rpc, request))

        return await self._ask_all(model, one)

    async def _ask_all(
        self, model: str, ask: Callable[[Channel], Coroutine[Any, Any, _T]]
    ) -> dict[str, _T | PredictError]:
        """Asks every server concurrently; returns the outcomes by address."""

        async def one(channel: Channel) -> _T | PredictError:
            try:
                return await ask(channel)
            except PredictError as error:
                return error

        is_open = self._servers.replicas.circuit_open
        async with asyncio.TaskGroup() as group:
            asked = {address: group.create_task(one(channel)) for address, channel in self._servers.channels.items()}
            trusted = [t for address, t in asked.items() if address not in self._silent and not is_open(model, address)]
            if trusted:
                await asyncio.wait(trusted)
                _, late = await asyncio.wait(asked.values(), timeout=_SUSPECTS_S)
                for task in late:
                    task.cancel()
        late_reply = PredictError("DEADLINE_EXCEEDED", "the server did not answer before, and not at once this time")
        found = {address: late_reply if task.cancelled() else task.result() for address, task in asked.items()}
        self._silent = {a for a, f in found.items() if isinstance(f, PredictError) and f.code == "DEADLINE_EXCEEDED"}
        return found

    async def _call_any(self, rpc: Rpc, request: Any) -> Any:
        """Calls the servers concurrently and returns the first reply."""

        async def one(channel: Channel) -> Any:
            try:
                return await self._call(channel, rpc, request)
            except PredictError as error:
                return error

        failures: list[PredictError] = []
        async with asyncio.TaskGroup() as group:
            pending = {group.create_task(one(channel)) for channel in self._servers.channels.values()}
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for found in (task.result() for task in done):
                    if not isinstance(found, PredictError):
                        for task in pending:
                            task.cancel()
                        return found
                    failures.append(found)
        raise _main_failure(failures)


def _failures(found: Mapping[str, object]) -> list[PredictError]:
    return [outcome for outcome in found.values() if isinstance(outcome, PredictError)]


def _main_failure(failures: Sequence[PredictError]) -> PredictError:
    """The failure to report: VersionGoneError only if every server failed with it."""
    return next((f for f in failures if not isinstance(f, VersionGoneError)), failures[0])
