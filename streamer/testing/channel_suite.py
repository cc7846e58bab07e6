"""The behaviour that the scorer expects of every channel, gRPC, REST or of another package."""

from typing import Any

from streamer.errors import PredictError, VersionGoneError
from streamer.serving.messages import OUTPUT, metadata_request, read_scores, score_request
from streamer.serving.protos import get_model_metadata_pb2, get_model_status_pb2
from streamer.serving.transport import Channel, Rpc
from streamer.types import F32, BatchInputs, ModelVersion

_UNKNOWN = 2**31
_SECONDS = 30.0


async def check_channel(channel: Channel, version: ModelVersion, inputs: BatchInputs) -> F32:
    """Calls each method of a channel to a server that has this version, and closes the channel.

    `inputs`: a batch as the version's spec encodes it. Returns its scores, float32 [rows].

    Raises:
        AssertionError: the channel does not keep a promise of `Channel`.
    """
    status = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": version.name})
    states = await channel.call("GetModelStatus", status, _SECONDS)
    is_available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    available = [found.version for found in states.model_version_status if found.state == is_available]
    assert version.version in available, f"GetModelStatus: {version} is not among the AVAILABLE versions {available}"
    metadata = metadata_request(name=version.name, version={"value": version.version})
    reply = await channel.call("GetModelMetadata", metadata, _SECONDS)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert reply.metadata["signature_def"].Unpack(signatures), "GetModelMetadata: expected a SignatureDefMap"
    assert "score" in signatures.signature_def, "GetModelMetadata: expected the signature `score`"
    request, _ = score_request(version, inputs)
    scores = read_scores(await channel.call("Predict", request, _SECONDS), OUTPUT, inputs.rows)
    assert not scores.invalid, f"Predict: scores are not in [0, 1]: {scores.invalid}"
    gone, _ = score_request(ModelVersion(version.name, _UNKNOWN), inputs)
    await _fails(channel, "Predict", gone, VersionGoneError)
    await channel.close()
    await channel.close()
    assert (await _fails(channel, "GetModelStatus", status, PredictError)).code == "CLOSED", "a call after `close`"
    return scores.ctr


async def _fails(channel: Channel, rpc: Rpc, request: Any, expected: type[PredictError]) -> PredictError:
    try:
        await channel.call(rpc, request, _SECONDS)
    except expected as error:
        return error
    raise AssertionError(f"{rpc}: expected {expected.__name__}")
