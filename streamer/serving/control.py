"""Rare calls about a model's versions: status, labels, specs, signatures, warm-up."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from streamer.errors import PredictError, VersionGoneError
from streamer.serving import messages
from streamer.serving.channel import Channel, Rpc
from streamer.serving.protos import get_model_status_pb2
from streamer.serving.replicas import SERVER_FAULTS
from streamer.types import BatchInputs, ModelVersion, SignatureInfo

_T = TypeVar("_T")


class Control:
    """Asks the model servers about versions; each call has the same timeout and no retry.

    A failure here does not count for the circuits: a server that loads a version may be slow to answer.
    """

    def __init__(self, channels: Sequence[Channel], timeout_s: float) -> None:
        self._channels = channels
        self._timeout_s = timeout_s

    async def available(self, model: str) -> frozenset[int]:
        """The versions that are AVAILABLE on every server that answers.

        Raises:
            VersionGoneError: no server has the model.
            PredictError: no server answers.
        """
        ready = get_model_status_pb2.ModelVersionStatus.AVAILABLE

        def read(reply: Any) -> frozenset[int]:
            return frozenset(status.version for status in reply.model_version_status if status.state == ready)

        request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": model})
        versions, failures = await self._call_all("GetModelStatus", request, read)
        if not versions:
            raise _main_failure(failures)
        return frozenset.intersection(*versions)

    async def labelled(self, model: str, label: str) -> int:
        """The version that a label names on every server that answers.

        Raises:
            PredictError: no server answers, a server does not have the label or its version, or the servers differ.
        """
        # GetModelStatus ignores labels and returns all versions.
        request = messages.metadata_request(name=model, version_label=label)
        found, failures = await self._call_all(
            "GetModelMetadata", request, lambda reply: int(reply.model_spec.version.value)
        )
        rejections = [failure for failure in failures if failure.code not in SERVER_FAULTS]
        if rejections or not found:
            failure = (rejections or failures)[0]
            raise PredictError(failure.code, f"label {label!r} of {model!r}: {failure.detail}")
        versions = sorted(set(found))
        if len(versions) > 1:
            differing = ", ".join(map(str, versions))
            raise PredictError("FAILED_PRECONDITION", f"label {label!r} of {model!r} leads to versions {differing}")
        return versions[0]

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

    async def warm(self, version: ModelVersion, inputs: BatchInputs) -> None:
        """Scores rows on every server and discards the scores: a version's first call is slow.

        Raises:
            BadReplyError, PredictError: as `Predictor.score`, if no server succeeds.
        """
        request, output = messages.score_request(version, inputs)
        scored, failures = await self._call_all(
            "Predict", request, lambda reply: messages.read_scores(reply, output, inputs.rows)
        )
        if not scored:
            raise _main_failure(failures)

    async def _call_all(self, rpc: Rpc, request: Any, read: Callable[[Any], _T]) -> tuple[list[_T], list[PredictError]]:
        """Calls every server concurrently; returns `read(reply)` of each reply, and the failures."""

        async def one(channel: Channel) -> _T | PredictError:
            try:
                return read(await channel.call(rpc, request, self._timeout_s))
            except PredictError as error:
                return error

        outcomes = await asyncio.gather(*map(one, self._channels))
        failures = [outcome for outcome in outcomes if isinstance(outcome, PredictError)]
        return [outcome for outcome in outcomes if not isinstance(outcome, PredictError)], failures

    async def _call_any(self, rpc: Rpc, request: Any) -> Any:
        """Calls one server after another until one answers; returns its reply."""
        failures: list[PredictError] = []
        for channel in self._channels:
            try:
                return await channel.call(rpc, request, self._timeout_s)
            except PredictError as error:
                failures.append(error)
        raise _main_failure(failures)


def _main_failure(failures: Sequence[PredictError]) -> PredictError:
    """The failure to report: VersionGoneError only if every server failed with it."""
    return next((f for f in failures if not isinstance(f, VersionGoneError)), failures[0])
