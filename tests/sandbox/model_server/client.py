"""A plain client of the model server, and the timeout of these tests."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from sandbox.host.loopback import DIRECT
from sandbox.model_server.lean_tensorflow import lean_tensorflow

with lean_tensorflow():
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    from tensorflow_serving.apis.get_model_metadata_pb2 import (
        GetModelMetadataRequest,
        GetModelMetadataResponse,
        SignatureDefMap,
    )
    from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse
    from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest, ReloadConfigResponse
    from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

TIMEOUT_S = 60.0
_TYPES = {"float32": 1, "float64": 2, "int32": 3, "object": 7, "int64": 9}
STATES = {10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}


def tensor(values: object, dtype: str = "float32") -> TensorProto:
    array = np.asarray(values, dtype)
    proto = TensorProto(dtype=_TYPES[dtype])
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype == "object":
        proto.string_val.extend(array.ravel().tolist())
    else:
        proto.tensor_content = array.tobytes()
    return proto


@dataclass(frozen=True)
class Failure:
    """Code and text of a failed call."""

    code: grpc.StatusCode
    text: str


class Client:
    """Calls by model name; a failed call is returned as a value."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, [*DIRECT, ("grpc.max_reconnect_backoff_ms", 200)])

    def close(self) -> None:
        self._channel.close()

    def request(
        self,
        model: str,
        inputs: Mapping[str, TensorProto],
        *,
        signature: str = "",
        version: int | None = None,
        label: str = "",
        outputs: tuple[str, ...] = (),
    ) -> PredictRequest:
        request = PredictRequest(inputs=inputs, output_filter=outputs)
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        if version is not None:
            request.model_spec.version.value = version
        if label:
            request.model_spec.version_label = label
        return request

    def raw_predict(self, request: PredictRequest, timeout_s: float = TIMEOUT_S) -> PredictResponse:
        return self._call("PredictionService/Predict", request, PredictResponse, timeout_s)

    def begin_predict(self, request: PredictRequest, timeout_s: float = TIMEOUT_S) -> Any:
        """A grpc.Future; on the same connection the server receives it before every later call."""
        call = self._channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=PredictRequest.SerializeToString,
            response_deserializer=PredictResponse.FromString,
        )
        return call.future(request, timeout=timeout_s)

    def predict(
        self, model: str, inputs: Mapping[str, TensorProto], *, timeout_s: float = TIMEOUT_S, **choice: Any
    ) -> dict[str, Any] | Failure:
        """Outputs by name as nested lists, or the failure."""
        try:
            response = self.raw_predict(self.request(model, inputs, **choice), timeout_s)
        except grpc.RpcError as error:
            return _failure(error)
        return {name: _values(proto).tolist() for name, proto in response.outputs.items()}

    def line(self, x: float, model: str, **choice: Any) -> float | Failure:
        """`y` of the default signature for one x."""
        result = self.predict(model, {"x": tensor([[x]])}, **choice)
        return result if isinstance(result, Failure) else float(result["y"][0][0])

    def signatures(self, model: str) -> SignatureDefMap:
        request = GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = model
        response = self._call("PredictionService/GetModelMetadata", request, GetModelMetadataResponse)
        found = SignatureDefMap()
        response.metadata["signature_def"].Unpack(found)
        return found

    def status(
        self, model: str, version: int | None = None, label: str = ""
    ) -> dict[int, tuple[str, int, str]] | Failure:
        """Version → state, error code, error message; newest first."""
        request = GetModelStatusRequest()
        request.model_spec.name = model
        if version is not None:
            request.model_spec.version.value = version
        if label:
            request.model_spec.version_label = label
        try:
            response = self._call("ModelService/GetModelStatus", request, GetModelStatusResponse)
        except grpc.RpcError as error:
            return _failure(error)
        return {
            entry.version: (STATES[entry.state], entry.status.error_code, entry.status.error_message)
            for entry in response.model_version_status
        }

    def states(self, model: str) -> dict[int, str]:
        found = self.status(model)
        return {} if isinstance(found, Failure) else {version: state for version, (state, _, _) in found.items()}

    def reload(self, request: ReloadConfigRequest) -> Failure | None:
        try:
            self._call("ModelService/HandleReloadConfigRequest", request, ReloadConfigResponse)
        except grpc.RpcError as error:
            return _failure(error)
        return None

    def _call(self, method: str, request: Any, response: Any, timeout_s: float = TIMEOUT_S) -> Any:
        call = self._channel.unary_unary(
            f"/tensorflow.serving.{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return call(request, timeout=timeout_s)


def eventually(holds: Callable[[], bool], condition: str) -> None:
    """Waits until `holds()`, at most TIMEOUT_S seconds."""
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {TIMEOUT_S} s: {condition}"
        time.sleep(0.02)


def _failure(error: grpc.RpcError) -> Failure:
    call: Any = error  # each RpcError of a finished call is also a grpc.Call, but its type does not state it
    return Failure(call.code(), call.details() or "")


def _values(proto: TensorProto) -> NDArray[Any]:
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_content:
        names = {number: name for name, number in _TYPES.items()}
        return np.frombuffer(proto.tensor_content, names[proto.dtype]).reshape(shape)
    values = proto.float_val or proto.int_val or proto.int64_val or proto.double_val or proto.string_val
    return np.array(list(values), object if proto.string_val else None).reshape(shape)
