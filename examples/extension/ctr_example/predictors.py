"""A predictor without a server: every candidate gets the prior of a feature spec."""

from pathlib import Path
from typing import Any

import numpy as np

from streamer.errors import PredictError, VersionGoneError
from streamer.features import FeatureSpec
from streamer.serving.replies import metadata_reply, scores_reply, spec_reply, status_reply
from streamer.serving.transport import CallHeaders, ChannelOptions, Rpc

_VERSION = 1


class PriorChannel:
    """A channel to version 1 of a model; its address is the path of a feature spec."""

    def __init__(self, address: str, _: ChannelOptions) -> None:
        self.address = address
        self._spec = FeatureSpec.from_yaml(Path(address))
        self._is_closed = False

    async def call(self, rpc: Rpc, request: Any, seconds: float, headers: CallHeaders = ()) -> Any:
        """As `streamer.serving.transport.Channel.call`."""
        if self._is_closed:
            raise PredictError("CLOSED", "the channel is closed")
        if rpc == "GetModelStatus":
            return status_reply([_VERSION])
        if request.model_spec.version.value != _VERSION:
            raise VersionGoneError("NOT_FOUND", f"the only version is {_VERSION}")
        if rpc == "GetModelMetadata":
            return metadata_reply(self._spec.to_json())
        if request.model_spec.signature_name == "feature_spec":
            return spec_reply(self._spec.to_json())
        rows = request.inputs["row_to_request"].tensor_shape.dim[0].size
        return scores_reply(np.full(rows, self._spec.prior, np.float32))

    async def close(self, grace_s: float | None = None) -> None:
        """As `streamer.serving.transport.Channel.close`."""
        self._is_closed = True
