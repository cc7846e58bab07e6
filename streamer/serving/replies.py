"""Builds TensorFlow Serving's replies: for predictors of other packages, and tests. Pure."""

from collections.abc import Sequence
from typing import Any

from streamer.features import GROUPS, FeatureSpec, Layout
from streamer.serving.protos import get_model_metadata_pb2, get_model_status_pb2, predict_pb2, types_pb2
from streamer.types import F32


def scores_reply(ctr: F32, dtype: int = types_pb2.DT_FLOAT, *, as_content: bool = True) -> Any:
    """A PredictResponse with scores [n], in `tensor_content` or in `float_val`."""
    reply = predict_pb2.PredictResponse()
    tensor = reply.outputs["ctr"]
    tensor.dtype = dtype
    tensor.tensor_shape.dim.add().size = len(ctr)
    if as_content:
        tensor.tensor_content = ctr.tobytes()
    else:
        tensor.float_val.extend(ctr.tolist())
    return reply


def spec_reply(spec: str) -> Any:
    """The PredictResponse of the signature `feature_spec`: the spec as JSON."""
    reply = predict_pb2.PredictResponse()
    tensor = reply.outputs["spec"]
    tensor.dtype = types_pb2.DT_STRING
    tensor.string_val.append(spec.encode())
    return reply


def metadata_reply(spec: str) -> Any:
    """A GetModelMetadataResponse with the inputs of the signature `score`; `spec` is JSON."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, (dtype, width) in _inputs_of(spec).items():
        info = signatures.signature_def["score"].inputs[name]
        info.dtype = dtype
        info.tensor_shape.dim.add().size = -1
        if width:
            info.tensor_shape.dim.add().size = width
    reply = get_model_metadata_pb2.GetModelMetadataResponse()
    reply.metadata["signature_def"].Pack(signatures)
    return reply


def status_reply(versions: Sequence[int]) -> Any:
    """A GetModelStatusResponse in which these versions are AVAILABLE."""
    reply = get_model_status_pb2.GetModelStatusResponse()
    for version in versions:
        found = reply.model_version_status.add()
        found.version = version
        found.state = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    return reply


def _inputs_of(spec: str) -> dict[str, tuple[int, int]]:
    """Dtype and width of each input of the `score` signature; 0 for a vector."""
    layout = Layout(FeatureSpec.from_json(spec))
    ids = {f"{group}_ids": (types_pb2.DT_INT32, layout.id_width(group)) for group in GROUPS}
    floats = {f"{group}_floats": (types_pb2.DT_FLOAT, layout.float_width(group)) for group in GROUPS}
    inputs = {name: (dtype, width) for name, (dtype, width) in (ids | floats).items() if width}
    return {**inputs, "row_to_request": (types_pb2.DT_INT32, 0)}
