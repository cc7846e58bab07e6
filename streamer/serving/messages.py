"""TensorFlow Serving's messages: builds requests, reads scores and specs from replies. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from streamer.diagnosis.facts import VersionState
from streamer.errors import BadReplyError
from streamer.serving.outputs import output_values, probabilities
from streamer.serving.predict_call import PredictCall
from streamer.serving.protos import get_model_metadata_pb2, get_model_status_pb2, types_pb2
from streamer.types import F32, BatchInputs, ModelVersion, ScoreOutput, SignatureInfo, Tensor, TensorInfo

SCORE, SPEC = "score", "feature_spec"
_INPUTS = ("request_ids", "request_floats", "candidate_ids", "candidate_floats", "pair_ids", "row_to_request")
OUTPUT = ScoreOutput("ctr")
"""The output of the `score` signature."""
INVALID = ("nan", "infinite", "out_of_range")
"""The reasons for which a score is not valid."""
_MAX_SPEC_BYTES = 8 * 2**20
UNNAMED = ""
"""The only output in a reply of REST, which does not name it."""


def score_call(version: ModelVersion, inputs: BatchInputs) -> tuple[PredictCall, ScoreOutput]:
    """The request for a batch, and the output that holds the scores."""
    if version.flat is not None:
        return PredictCall(version, version.flat.name, version.flat.tensors(inputs)), version.flat.output
    arrays = {name: getattr(inputs, name) for name in _INPUTS}
    # The signature has no inputs of width 0.
    return PredictCall(version, SCORE, {n: a for n, a in arrays.items() if a.ndim == 1 or a.shape[1]}), OUTPUT


def score_request(version: ModelVersion, inputs: BatchInputs) -> tuple[Any, ScoreOutput]:
    """As `score_call`, with the message."""
    call, output = score_call(version, inputs)
    return call.message(), output


def predict_request(version: ModelVersion, signature: str, arrays: Mapping[str, Tensor]) -> Any:
    """A Predict request with these inputs."""
    return PredictCall(version, signature, arrays).message()


def metadata_request(**model_spec: Any) -> Any:
    """A GetModelMetadata request for signatures, of the version with these fields of ModelSpec."""
    return get_model_metadata_pb2.GetModelMetadataRequest(model_spec=model_spec, metadata_field=["signature_def"])


class Scores(NamedTuple):
    """The scores in a reply.

    Attributes:
        ctr: float32 [rows], each in [0, 1] or NaN: not valid.
        invalid: the number of scores that are not valid, by reason.
    """

    ctr: F32
    invalid: Mapping[str, int]

    def usable(self) -> F32:
        """The scores. Raises BadReplyError if none of them is valid."""
        if self.invalid and np.isnan(self.ctr).all():
            counts = ", ".join(f"{count} {reason}" for reason, count in self.invalid.items())
            raise BadReplyError("INVALID_REPLY", f"no score is in [0, 1]: {counts}")
        return self.ctr


def read_scores(reply: Any, output: ScoreOutput, rows: int) -> Scores:
    """The scores in a Predict reply.

    A row can have no valid score because of its own values: the other rows keep theirs.

    Raises:
        BadReplyError: the number or the dtype of the scores is wrong.
    """
    ctr = probabilities(output_values(_output(reply, output.name), output, rows), output, rows)
    # A NaN fails this condition too.
    if ctr.min(initial=0.0) >= 0.0 and ctr.max(initial=0.0) <= 1.0:
        return Scores(ctr, {})
    valid = (ctr >= 0.0) & (ctr <= 1.0)
    nan, infinite = np.isnan(ctr), np.isinf(ctr)
    which = dict(zip(INVALID, (nan, infinite, ~(valid | nan | infinite)), strict=True))
    invalid = {reason: count for reason, rows_of in which.items() if (count := int(rows_of.sum()))}
    return Scores(np.where(valid, ctr, np.float32(np.nan)), invalid)


def read_spec(reply: Any, version: ModelVersion) -> str:
    """The spec, as JSON, in a reply of the signature `feature_spec`.

    Raises:
        BadReplyError: the reply does not hold one UTF-8 string of at most 8 MiB.
    """
    try:
        output = _output(reply, "spec")
        (value,) = [_packed_string(output.tensor_content)] if output.tensor_content else output.string_val
        spec = bytes(value).decode()
    except ValueError:  # not one value, or not UTF-8
        raise BadReplyError("INVALID_REPLY", f"{version}: its feature_spec signature returned no string") from None
    if len(spec) > _MAX_SPEC_BYTES:
        raise BadReplyError("INVALID_REPLY", f"{version}: its feature spec has {len(value)} bytes, more than 8 MiB")
    return spec


def _packed_string(content: bytes) -> bytes:
    """The string in `tensor_content`: its length as a varint, then its bytes.

    A server with `--enable_serialization_as_tensor_content` sends strings so. Raises ValueError.
    """
    start = next((at for at, byte in enumerate(content, 1) if byte < 0x80), 0)
    size = sum((byte & 0x7F) << 7 * at for at, byte in enumerate(content[:start]))
    if not start or len(content) != start + size:
        raise ValueError("not one string")
    return content[start:]


def read_signature(reply: Any, version: ModelVersion, name: str) -> SignatureInfo:
    """The inputs and outputs of a signature in a GetModelMetadata reply.

    Raises:
        BadReplyError: the version has no such signature, or the reply cannot be decoded.
    """
    signatures = get_model_metadata_pb2.SignatureDefMap()
    try:
        reply.metadata["signature_def"].Unpack(signatures)
    except DecodeError:
        raise BadReplyError("INVALID_REPLY", f"{version}: its signatures cannot be decoded") from None
    if name not in signatures.signature_def:
        names = ", ".join(sorted(signatures.signature_def)) or "none"
        raise BadReplyError("FAILED_PRECONDITION", f"{version} has no signature {name!r}, but {names}")
    found = signatures.signature_def[name]
    inputs, outputs = ({n: _tensor_info(t) for n, t in side.items()} for side in (found.inputs, found.outputs))
    return SignatureInfo(inputs, outputs, frozenset(found.defaults))


def read_states(reply: Any) -> list[VersionState]:
    """The versions of a GetModelStatus reply."""
    return [
        VersionState(
            found.version,
            get_model_status_pb2.ModelVersionStatus.State.Name(found.state),
            f"{found.status.error_code}: {found.status.error_message}" if found.status.error_code else "",
        )
        for found in reply.model_version_status
    ]


def read_version(reply: Any) -> int:
    """The version that a GetModelMetadata reply describes.

    Raises:
        BadReplyError: the reply names no version.
    """
    if not reply.model_spec.HasField("version"):
        raise BadReplyError("INVALID_REPLY", "the reply names no version")
    return int(reply.model_spec.version.value)


def _output(reply: Any, name: str) -> Any:
    return reply.outputs[UNNAMED if UNNAMED in reply.outputs else name]


def _tensor_info(found: Any) -> TensorInfo:
    names = types_pb2.DataType.DESCRIPTOR.values_by_number
    # A newer TensorFlow may have dtypes without a name here.
    name = names[found.dtype].name.removeprefix("DT_").lower() if found.dtype in names else f"dtype {found.dtype}"
    shape = found.tensor_shape
    dims = None if shape.unknown_rank else tuple(dim.size for dim in shape.dim)
    return TensorInfo({"float": "float32", "double": "float64", "half": "float16"}.get(name, name), dims)
