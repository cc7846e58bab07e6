"""TensorFlow Serving's messages: builds requests, reads scores and specs from replies. Pure."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from streamer.errors import BadReplyError
from streamer.serving.protos import get_model_metadata_pb2, predict_pb2, types_pb2
from streamer.types import F32, BatchInputs, ModelVersion, SignatureInfo, Tensor, TensorInfo

SCORE, SPEC = "score", "feature_spec"
_INPUTS = ("request_ids", "request_floats", "candidate_ids", "candidate_floats", "pair_ids", "row_to_request")
_OUTPUT = "ctr"
_FLOAT = types_pb2.DT_FLOAT
_DTYPES = {
    np.dtype(np.float32): _FLOAT,
    np.dtype(np.int32): types_pb2.DT_INT32,
    np.dtype(np.int64): types_pb2.DT_INT64,
}


def score_request(version: ModelVersion, inputs: BatchInputs) -> tuple[Any, str]:
    """The Predict request for a batch, and the name of the output that holds the scores."""
    if version.flat is not None:
        return predict_request(version, version.flat.name, version.flat.tensors(inputs)), version.flat.output
    arrays = {name: getattr(inputs, name) for name in _INPUTS}
    # The signature has no inputs of width 0.
    return predict_request(version, SCORE, {n: a for n, a in arrays.items() if a.ndim == 1 or a.shape[1]}), _OUTPUT


def predict_request(version: ModelVersion, signature: str, arrays: Mapping[str, Tensor]) -> Any:
    """A Predict request with these inputs."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = version.name
    request.model_spec.version.value = version.version
    request.model_spec.signature_name = signature
    for name, array in arrays.items():
        tensor = request.inputs[name]
        tensor.dtype = _DTYPES[array.dtype]
        for size in array.shape:
            tensor.tensor_shape.dim.add().size = size
        tensor.tensor_content = array.tobytes()
    return request


def metadata_request(**model_spec: Any) -> Any:
    """A GetModelMetadata request for signatures, of the version with these fields of ModelSpec."""
    return get_model_metadata_pb2.GetModelMetadataRequest(model_spec=model_spec, metadata_field=["signature_def"])


def read_scores(reply: Any, output: str, rows: int) -> F32:
    """The scores in a Predict reply, float32 [rows].

    Raises:
        BadReplyError: the number, dtype or range of the scores is wrong.
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
    # A NaN fails this condition too.
    if not (ctr.min(initial=0.0) >= 0.0 and ctr.max(initial=0.0) <= 1.0):
        raise BadReplyError("INVALID_REPLY", f"output {output!r}: a score is not in [0, 1]")
    return ctr


def read_spec(reply: Any, version: ModelVersion) -> str:
    """The spec, as JSON, in a reply of the signature `feature_spec`.

    Raises:
        BadReplyError: the reply does not hold one UTF-8 string.
    """
    try:
        (value,) = reply.outputs["spec"].string_val
        return bytes(value).decode()
    except ValueError:  # not one value, or not UTF-8
        raise BadReplyError("INVALID_REPLY", f"{version}: its feature_spec signature returned no string") from None


def read_signature(reply: Any, version: ModelVersion, name: str) -> SignatureInfo:
    """The inputs and outputs of a signature in a GetModelMetadata reply.

    Raises:
        BadReplyError: the version has no such signature.
    """
    signatures = get_model_metadata_pb2.SignatureDefMap()
    reply.metadata["signature_def"].Unpack(signatures)
    if name not in signatures.signature_def:
        raise BadReplyError("FAILED_PRECONDITION", f"{version} has no signature {name!r}")
    found = signatures.signature_def[name]
    return SignatureInfo(*({n: _tensor_info(t) for n, t in side.items()} for side in (found.inputs, found.outputs)))


def _tensor_info(found: Any) -> TensorInfo:
    name = types_pb2.DataType.Name(found.dtype).removeprefix("DT_").lower()
    return TensorInfo({"float": "float32"}.get(name, name), tuple(dim.size for dim in found.tensor_shape.dim))
