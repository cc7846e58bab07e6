"""Predict's messages: arrays into a request, scores out of a reply. Pure."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from streamer.errors import BadReplyError
from streamer.serving.protos import predict_pb2, types_pb2
from streamer.types import F32, BatchInputs, ModelVersion, Tensor, TensorInfo

SCORE, SPEC = "score", "feature_spec"
INPUTS = ("request_ids", "request_floats", "candidate_ids", "candidate_floats", "pair_ids", "row_to_request")
OUTPUT = "ctr"
_FLOAT = types_pb2.DT_FLOAT
_DTYPES = {
    np.dtype(np.float32): _FLOAT,
    np.dtype(np.int32): types_pb2.DT_INT32,
    np.dtype(np.int64): types_pb2.DT_INT64,
}


def score_request(version: ModelVersion, inputs: BatchInputs) -> Any:
    """The Predict request for a batch; inputs of width 0 are left out, as in the signature."""
    arrays = {name: getattr(inputs, name) for name in INPUTS}
    return predict_request(version, SCORE, {n: a for n, a in arrays.items() if a.ndim == 1 or a.shape[1]})


def predict_request(version: ModelVersion, signature: str, arrays: Mapping[str, Tensor]) -> Any:
    request = predict_pb2.PredictRequest()
    specify(request.model_spec, version, signature)
    for name, array in arrays.items():
        _fill(request.inputs[name], array)
    return request


def tensor_info(found: Any) -> TensorInfo:
    name = types_pb2.DataType.Name(found.dtype).removeprefix("DT_").lower()
    return TensorInfo({"float": "float32"}.get(name, name), tuple(dim.size for dim in found.tensor_shape.dim))


def read_scores(reply: Any, output: str, rows: int) -> F32:
    """The scores in a Predict response, float32 [rows].

    Raises:
        BadReplyError: the count, dtype or range is wrong.
    """
    tensor = reply.outputs[output]
    if tensor.dtype != _FLOAT:
        raise BadReplyError("INVALID_REPLY", f"output {output!r}: expected float32, got dtype {tensor.dtype}")
    content = tensor.tensor_content
    if len(content) % 4:
        raise BadReplyError("INVALID_REPLY", f"output {output!r}: expected {rows} scores, got {len(content)} bytes")
    # Without --enable_serialization_as_tensor_content TensorFlow Serving writes float_val.
    ctr = np.frombuffer(content, dtype=np.float32) if content else np.array(tensor.float_val, dtype=np.float32)
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if math.prod(shape) != rows or len(ctr) != rows:
        raise BadReplyError("INVALID_REPLY", f"output {output!r}: expected {rows} scores, got shape {shape}")
    # Written so that NaN fails it too.
    if not (ctr.min(initial=0.0) >= 0.0 and ctr.max(initial=0.0) <= 1.0):
        raise BadReplyError("INVALID_REPLY", f"output {output!r}: a score is not in [0, 1]")
    return ctr


def specify(model_spec: Any, version: ModelVersion, signature: str) -> None:
    model_spec.name = version.name
    model_spec.version.value = version.version
    if signature:
        model_spec.signature_name = signature


def _fill(tensor: Any, array: Tensor) -> None:
    tensor.dtype = _DTYPES[array.dtype]
    for size in array.shape:
        tensor.tensor_shape.dim.add().size = size
    tensor.tensor_content = array.tobytes()
