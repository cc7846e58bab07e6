"""TensorFlow Serving over grpc.aio: scores, versions, specs. Statuses become typed errors here and nowhere else."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import numpy as np
import numpy.typing as npt

from streamer.errors import BadReplyError, PredictError, VersionGoneError
from streamer.serving_messages import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
    types_pb2,
)
from streamer.settings import PredictorSettings
from streamer.types import F32, BatchInputs, ModelVersion

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
_MAX_MESSAGE_BYTES = 64 * 2**20
_OPTIONS = (
    # The default back-off grows to 120 s; a server that is back must be used again at once.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)
SCORE, SPEC = "score", "feature_spec"
INPUTS = ("request_ids", "request_floats", "candidate_ids", "candidate_floats", "pair_ids", "row_to_request")
_INT32 = types_pb2.DT_INT32
_FLOAT = types_pb2.DT_FLOAT


class Predictor:
    """A client of one model on one or several model servers. `score` calls are cheap; control calls are rare.

    Every call has a deadline. Needs a running event loop; one loop a process (a limit of grpc.aio).
    """

    def __init__(self, settings: PredictorSettings) -> None:
        self._settings = settings
        target = settings.addresses[0] if len(settings.addresses) == 1 else "ipv4:" + ",".join(settings.addresses)
        self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        self._predict = self._method(_PREDICT, predict_pb2.PredictRequest, predict_pb2.PredictResponse)
        self._metadata = self._method(
            _METADATA,
            get_model_metadata_pb2.GetModelMetadataRequest,
            get_model_metadata_pb2.GetModelMetadataResponse,
        )
        self._status = self._method(
            _STATUS, get_model_status_pb2.GetModelStatusRequest, get_model_status_pb2.GetModelStatusResponse
        )

    def _method(self, name: str, request: Any, response: Any) -> Callable[..., Any]:
        method: Callable[..., Any] = self._channel.unary_unary(
            name, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        return method

    async def score(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32:
        """Click probabilities of n rows.

        Returns:
            float32 [n], all in [0, 1].

        Raises:
            VersionGoneError: the server has not got this version (any more).
            BadReplyError: the reply's count, dtype or range is wrong.
            PredictError: the server is unreachable, busy or too slow.
        """
        if seconds <= 0:
            raise PredictError("DEADLINE_EXCEEDED", "no time was left for the call")
        reply = await self._call(self._predict, score_request(version, inputs), seconds)
        return read_scores(reply, "ctr", inputs.rows)

    async def available(self, model: str) -> frozenset[int]:
        """The versions that the server calls AVAILABLE.

        Raises:
            VersionGoneError: the server does not know the model.
            PredictError: the server cannot be asked.
        """
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        reply = await self._call(self._status, request, self._control_s)
        ready = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        return frozenset(status.version for status in reply.model_version_status if status.state == ready)

    async def feature_spec(self, version: ModelVersion) -> str:
        """The spec, as JSON, that the version was trained with: its `feature_spec` signature says so.

        Raises:
            PredictError: the version has no such signature, or the server cannot be asked.
        """
        request = predict_pb2.PredictRequest()
        _specify(request.model_spec, version, SPEC)
        reply = await self._call(self._predict, request, self._control_s)
        values = reply.outputs["spec"].string_val
        if len(values) != 1:
            raise BadReplyError("INVALID_REPLY", f"{version}: its feature_spec signature returned no string")
        return bytes(values[0]).decode()

    async def score_inputs(self, version: ModelVersion) -> dict[str, int]:
        """The inputs of the `score` signature with their widths: 0 for a vector, -1 where it is left open.

        Raises:
            BadReplyError: the version has no `score` signature, or one with an input of another dtype.
            PredictError: the server cannot be asked.
        """
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        _specify(request.model_spec, version, "")
        request.metadata_field.append("signature_def")
        reply = await self._call(self._metadata, request, self._control_s)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        reply.metadata["signature_def"].Unpack(signatures)
        if SCORE not in signatures.signature_def:
            raise BadReplyError("FAILED_PRECONDITION", f"{version} has no signature {SCORE!r}")
        found: dict[str, int] = {}
        for name, info in signatures.signature_def[SCORE].inputs.items():
            dims = info.tensor_shape.dim
            found[name] = dims[1].size if len(dims) > 1 else 0
            if info.dtype != (_FLOAT if name.endswith("_floats") else _INT32):
                raise BadReplyError("FAILED_PRECONDITION", f"{version}: input {name!r} has dtype {info.dtype}")
        return found

    async def warm(self, version: ModelVersion, inputs: BatchInputs) -> None:
        """Scores rows for nobody, so that the version's first real call is not its first call.

        Raises:
            PredictError: as `score` does.
        """
        await self.score(version, inputs, self._control_s)

    async def close(self) -> None:
        """Closes the channel; calls in flight are cancelled."""
        await self._channel.close(None)

    @property
    def _control_s(self) -> float:
        return self._settings.control_timeout_ms / 1e3

    async def _call(self, method: Callable[..., Any], request: Any, seconds: float) -> Any:
        try:
            return await method(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            detail = error.details() or "no details"
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise VersionGoneError(code, detail) from None
            raise PredictError(code, detail) from None
        except grpc.aio.UsageError as error:
            raise PredictError("CLOSED", str(error)) from None
        except asyncio.CancelledError:
            raise
        except grpc.RpcError as error:
            raise PredictError("UNKNOWN", str(error)) from None


def score_request(version: ModelVersion, inputs: BatchInputs) -> Any:
    """The Predict request for a batch; inputs of width 0 are left out, as in the signature."""
    request = predict_pb2.PredictRequest()
    _specify(request.model_spec, version, SCORE)
    for name in INPUTS:
        array = getattr(inputs, name)
        if array.ndim == 1 or array.shape[1]:
            _fill(request.inputs[name], array)
    return request


def read_scores(reply: Any, output: str, rows: int) -> F32:
    """The scores in a Predict response, float32 [rows].

    Raises:
        BadReplyError: the count, dtype or range is wrong.
    """
    tensor = reply.outputs[output]
    if tensor.dtype != _FLOAT:
        raise BadReplyError("INVALID_REPLY", f"output {output!r}: expected float32, got dtype {tensor.dtype}")
    content = tensor.tensor_content
    # Without --enable_serialization_as_tensor_content TensorFlow Serving writes float_val.
    ctr = np.frombuffer(content, dtype=np.float32) if content else np.array(tensor.float_val, dtype=np.float32)
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if math.prod(shape) != rows or len(ctr) != rows:
        raise BadReplyError("INVALID_REPLY", f"output {output!r}: expected {rows} scores, got shape {shape}")
    # Written so that NaN fails it too.
    if not (ctr.min(initial=0.0) >= 0.0 and ctr.max(initial=0.0) <= 1.0):
        raise BadReplyError("INVALID_REPLY", f"output {output!r}: a score is not in [0, 1]")
    return ctr


def _specify(model_spec: Any, version: ModelVersion, signature: str) -> None:
    model_spec.name = version.name
    model_spec.version.value = version.version
    if signature:
        model_spec.signature_name = signature


def _fill(tensor: Any, array: npt.NDArray[np.generic]) -> None:
    tensor.dtype = _FLOAT if array.dtype == np.float32 else _INT32
    for size in array.shape:
        tensor.tensor_shape.dim.add().size = size
    tensor.tensor_content = array.tobytes()
