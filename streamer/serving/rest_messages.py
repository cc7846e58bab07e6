"""Requests and replies of TensorFlow Serving's gRPC API as paths and JSON of REST. Pure.

A number is the same in both protocols: JSON holds the shortest text of a float32, and all digits of an integer.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson
from google.protobuf import json_format
from google.protobuf.message import Message

from streamer.errors import BadReplyError, PredictError
from streamer.serving.messages import UNNAMED
from streamer.serving.predict_call import DTYPES
from streamer.serving.protos import get_model_metadata_pb2, get_model_status_pb2, predict_pb2, types_pb2
from streamer.serving.transport import MAX_DETAIL, Rpc, classified

WITHOUT_INPUTS = "_rest"
"""The real server rejects REST calls of a signature without inputs. Such a signature `x` has a copy `x_rest`, which has
the input `rows`, int32 [n], and returns each output once for each row."""
_ARRAYS: Mapping[int, Any] = {number: dtype for dtype, number in DTYPES.items()}
# The reverse of TensorFlow Serving's own table. 400 also stands for FAILED_PRECONDITION and OUT_OF_RANGE.
_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "MESSAGE_TOO_LARGE",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
# Texts with status 400 for which gRPC has FAILED_PRECONDITION: the version's fault, not the request's.
_OF_THE_VERSION = (
    "not found in signature def",
    "Failed to get input map for signature",
    "Could not find variable",
    "Error while reading resource variable",
    "Attempting to use uninitialized value",
    "Table not initialized",
    "Batched output tensor",
)


class HttpRequest(NamedTuple):
    """A request: method, path, and body; None: it has no body."""

    method: str
    path: str
    body: bytes | None


def http_request(rpc: Rpc, request: Any) -> HttpRequest:
    """The REST call that asks the same as a request of the gRPC API."""
    path = _path(request.model_spec)
    if rpc == "Predict":
        return HttpRequest("POST", f"{path}:predict", _predict_body(request))
    return HttpRequest("GET", path if rpc == "GetModelStatus" else f"{path}/metadata", None)


def reply(rpc: Rpc, body: bytes) -> Any:
    """The reply of the gRPC API that holds the same as the body of a REST reply.

    Raises:
        BadReplyError: the body is not what TensorFlow Serving answers.
    """
    try:
        found = _parsed(body)
        if rpc == "Predict":
            return _predict_reply(found)
        if rpc == "GetModelStatus":
            statuses = {"model_version_status": found["model_version_status"]}
            return _message(statuses, get_model_status_pb2.GetModelStatusResponse())
        return _metadata_reply(found)
    # json_format raises errors of further classes for values of a wrong kind.
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, json_format.Error) as error:
        detail = f"the reply to {rpc} cannot be decoded: {str(error) or type(error).__name__:.{MAX_DETAIL}}"
        raise BadReplyError("INVALID_REPLY", detail) from None


def failure(status: int, body: bytes) -> PredictError:
    """The error of a call that ended with an HTTP status other than 200."""
    text = _error_text(body)
    if text is None:
        # Not from TensorFlow Serving, so it is not about the request or the version either.
        code = {400: "INTERNAL", 404: "UNIMPLEMENTED"}.get(status, _CODES.get(status, "UNKNOWN"))
        detail = (
            f"HTTP {status} without TensorFlow Serving's error text; is this the server's REST port (default 8501)?"
        )
        return PredictError(code, detail)
    if status == 400 and any(part in text for part in _OF_THE_VERSION):
        return PredictError("FAILED_PRECONDITION", _explained(text)[:MAX_DETAIL])
    return classified(_CODES.get(status, "UNKNOWN"), text)


def _path(model: Any) -> str:
    path = f"/v1/models/{model.name}"
    if model.HasField("version"):
        return f"{path}/versions/{model.version.value}"
    return f"{path}/labels/{model.version_label}" if model.version_label else path


def _predict_body(request: Any) -> bytes:
    """The inputs as columns: rows need one first dimension, and a JSON object for each."""
    signature, inputs = request.model_spec.signature_name, {n: _values(t) for n, t in request.inputs.items()}
    if not inputs:
        signature, inputs = signature + WITHOUT_INPUTS, {"rows": [0]}
    arrays = [values for values in inputs.values() if isinstance(values, np.ndarray)]
    if all(array.dtype.kind != "f" or np.isfinite(array).all() for array in arrays):
        return orjson.dumps({"signature_name": signature, "inputs": inputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    # orjson writes null for NaN and infinity; the server reads them by name.
    named = {n: values.tolist() if isinstance(values, np.ndarray) else values for n, values in inputs.items()}
    return json.dumps({"signature_name": signature, "inputs": named}).encode()


def _values(tensor: Any) -> Any:
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.dtype == types_pb2.DT_STRING:
        texts = np.empty(len(tensor.string_val), dtype=object)
        texts[:] = [_text(value) for value in tensor.string_val]
        return texts.reshape(shape).tolist()
    array = np.frombuffer(tensor.tensor_content, _ARRAYS[tensor.dtype]).reshape(shape)
    return array if shape else array.item()


def _text(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _predict_reply(found: Any) -> Any:
    outputs, message = found["outputs"], predict_pb2.PredictResponse()
    named = outputs if isinstance(outputs, dict) and "b64" not in outputs else {UNNAMED: outputs}
    for name, value in named.items():
        _fill(message.outputs[name], value)
    return message


def _fill(tensor: Any, value: Any) -> None:
    """Writes an output; an output that holds neither numbers nor texts stays without a dtype."""
    first = value
    while isinstance(first, list) and first:
        first = first[0]
    if isinstance(first, str | dict):
        texts = np.array(value, dtype=np.object_)
        tensor.dtype = types_pb2.DT_STRING
        tensor.string_val.extend(map(_bytes, texts.ravel().tolist()))
        _set_shape(tensor, texts.shape)
        return
    array = np.array(value)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    if array.dtype.kind not in "fib" or array.dtype not in DTYPES:
        return
    tensor.dtype = DTYPES[array.dtype]
    _set_shape(tensor, array.shape)
    tensor.tensor_content = array.tobytes()


def _set_shape(tensor: Any, shape: tuple[int, ...]) -> None:
    for size in shape:
        tensor.tensor_shape.dim.add().size = size


def _bytes(text: Any) -> bytes:
    return base64.b64decode(text["b64"]) if isinstance(text, dict) else text.encode()


def _metadata_reply(found: Any) -> Any:
    message = get_model_metadata_pb2.GetModelMetadataResponse()
    _message(found["model_spec"], message.model_spec)
    signatures = _message(found["metadata"]["signature_def"], get_model_metadata_pb2.SignatureDefMap())
    message.metadata["signature_def"].Pack(signatures)
    return message


def _message(found: dict[str, Any], message: Message) -> Message:
    # A newer server may have further fields.
    return json_format.ParseDict(found, message, ignore_unknown_fields=True)


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        # Not JSON, but what the server writes: NaN, Infinity, -Infinity.
        return json.loads(body.decode())


def _error_text(body: bytes) -> str | None:
    """The text of an error; None if TensorFlow Serving did not write it."""
    try:
        found = json.loads(body.decode(errors="replace"), strict=False)
    except (ValueError, RecursionError):
        return None
    text = found.get("error") if isinstance(found, dict) else None
    return text if isinstance(text, str) else None


def _explained(text: str) -> str:
    if f'{WITHOUT_INPUTS}" not found in signature def' not in text:
        return text
    remedy = "export the model again, or name its spec in predictor.spec_files"
    return f"{text}; REST needs it, because it cannot call signatures without inputs: {remedy}"
