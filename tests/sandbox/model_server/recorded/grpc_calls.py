"""Replays one recorded gRPC call."""

import base64
import math
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
from google.protobuf.json_format import MessageToDict, ParseDict

from sandbox.host.loopback import DIRECT
from sandbox.model_server.lean_tensorflow import lean_tensorflow
from tests.sandbox.model_server.recorded.recording import Places, same

with lean_tensorflow():
    from tensorflow.core.framework import types_pb2
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        model_management_pb2,
        predict_pb2,
        regression_pb2,
        session_service_pb2,
    )

_MESSAGES: Mapping[str, tuple[Any, Any]] = {
    "PredictionService/Predict": (predict_pb2.PredictRequest, predict_pb2.PredictResponse),
    "PredictionService/Classify": (classification_pb2.ClassificationRequest, classification_pb2.ClassificationResponse),
    "PredictionService/Regress": (regression_pb2.RegressionRequest, regression_pb2.RegressionResponse),
    "PredictionService/MultiInference": (inference_pb2.MultiInferenceRequest, inference_pb2.MultiInferenceResponse),
    "PredictionService/GetModelMetadata": (
        get_model_metadata_pb2.GetModelMetadataRequest,
        get_model_metadata_pb2.GetModelMetadataResponse,
    ),
    "SessionService/SessionRun": (session_service_pb2.SessionRunRequest, session_service_pb2.SessionRunResponse),
    "ModelService/GetModelStatus": (
        get_model_status_pb2.GetModelStatusRequest,
        get_model_status_pb2.GetModelStatusResponse,
    ),
    "ModelService/HandleReloadConfigRequest": (
        model_management_pb2.ReloadConfigRequest,
        model_management_pb2.ReloadConfigResponse,
    ),
}
_DEADLINE_MS = 30_000
_LARGEST = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_SOON = ("grpc.max_reconnect_backoff_ms", 500)


def open_channel(address: str) -> grpc.Channel:
    return grpc.insecure_channel(address, [*DIRECT, *_LARGEST, _SOON, ("grpc.use_local_subchannel_pool", 1)])


def request_bytes(call: Mapping[str, Any], at: Places) -> bytes:
    """The message of a recorded call."""
    if "request_base64" in call:
        return base64.b64decode(call["request_base64"])
    kind, _ = _MESSAGES[_short(call.get("method", "tensorflow.serving.PredictionService/Predict"))]
    message = ParseDict(at.fill(call["request"]), kind())
    if fill := call.get("fill"):
        proto = message.inputs[fill["input"]]
        proto.dtype = types_pb2.DataType.Value(fill["dtype"])
        for size in fill["shape"]:
            proto.tensor_shape.dim.add(size=size)
        proto.tensor_content = np.full(fill["shape"], fill["value"], np.float32).tobytes()
    encoded: bytes = message.SerializeToString()
    return encoded


def outcome(call: Mapping[str, Any], channel: grpc.Channel, at: Places) -> dict[str, Any]:
    """`code`, then `details` or `response`, as they are recorded."""
    method = call.get("method", "tensorflow.serving.PredictionService/Predict")
    stub = channel.unary_unary(f"/{method}", bytes, bytes)
    compression = grpc.Compression.Gzip if call.get("compression") == "gzip" else None
    deadline_s = call.get("deadline_ms", _DEADLINE_MS) / 1e3
    try:
        reply = stub(request_bytes(call, at), timeout=deadline_s, compression=compression, wait_for_ready=False)
    except grpc.RpcError as error:
        failed: Any = error  # each RpcError of a finished call is also a grpc.Call, but its type does not state it
        return {"code": failed.code().name, "details": failed.details()}
    short = _short(method)
    if short not in _MESSAGES:
        return {"code": "OK", "response_base64": base64.b64encode(reply).decode()}
    response = _MESSAGES[short][1].FromString(reply)
    if "fill" in call:
        return {"code": "OK", "response": {"summary": {name: _summary(t) for name, t in response.outputs.items()}}}
    return {"code": "OK", "response": MessageToDict(response)}


def difference(call: Mapping[str, Any], actual: Mapping[str, Any], at: Places) -> str | None:
    """What differs from the recorded outcome; None if nothing does."""
    expected = {key: at.fill(call[key]) for key in ("code", "details", "response", "response_base64") if key in call}
    if expected["code"] == actual["code"] == "DEADLINE_EXCEEDED":
        return None  # the text is the client library's
    return None if same(expected, dict(actual)) else f"expected {expected}\n  actual   {dict(actual)}"


def _summary(proto: Any) -> dict[str, Any]:
    shape = [dim.size for dim in proto.tensor_shape.dim]
    content = np.frombuffer(proto.tensor_content, np.float32)
    values = content if content.size else np.asarray(proto.float_val, np.float32)
    return {
        "shape": shape,
        "float_val_count": len(proto.float_val),
        "tensor_content_bytes": len(proto.tensor_content),
        "first": values[: min(2, math.prod(shape))].tolist(),
    }


def _short(method: str) -> str:
    return method.removeprefix("tensorflow.serving.")
