"""The gRPC services on a `Manager`."""

import math
from collections.abc import Callable
from typing import Any

import grpc
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest, ReloadConfigResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from sandbox.model_server.config import from_proto
from sandbox.model_server.flags import ServerFlags
from sandbox.model_server.manager import Manager
from sandbox.model_server.predict import predict
from sandbox.model_server.servable import Servable
from sandbox.model_server.status import StatusError, code_number, invalid_argument

RELOAD_WAIT_S = 300.0
"""A reload waits at most this long for its new models."""


class Services:
    """The RPCs.

    Each method takes a request message and returns the response or raises `StatusError`.
    """

    def __init__(self, manager: Manager, flags: ServerFlags) -> None:
        self._manager = manager
        self._as_content = flags.enable_serialization_as_tensor_content

    def predict(self, request: PredictRequest, context: grpc.ServicerContext) -> PredictResponse:
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        servable = self._acquire(request.model_spec)
        try:
            # Read last: the time in the queue counts, and an expired call must cost no inference.
            remaining_s = _remaining_s(context)
            if remaining_s <= 0.0 or not context.is_active():
                raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
            return predict(servable, request, remaining_s=remaining_s, as_content=self._as_content)
        finally:
            servable.release()

    def get_model_metadata(self, request: GetModelMetadataRequest, _: grpc.ServicerContext) -> GetModelMetadataResponse:
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid_argument(f"Metadata field {field} is not supported")
        servable = self._acquire(request.model_spec)
        try:
            response = GetModelMetadataResponse()
            response.model_spec.name = servable.id.name
            response.model_spec.version.value = servable.id.version
            response.metadata["signature_def"].Pack(SignatureDefMap(signature_def=servable.definitions))
            return response
        finally:
            servable.release()

    def get_model_status(self, request: GetModelStatusRequest, _: grpc.ServicerContext) -> GetModelStatusResponse:
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        spec = request.model_spec
        # A label is ignored, as by tensorflow_model_server: the response has all versions.
        version = spec.version.value if spec.HasField("version") else None
        response = GetModelStatusResponse()
        for status in self._manager.statuses(spec.name, version):
            entry = response.model_version_status.add(version=status.version, state=int(status.state))
            entry.status.error_code = code_number(status.error.code) if status.error else 0
            entry.status.error_message = status.error.message if status.error else ""
        return response

    def handle_reload_config(self, request: ReloadConfigRequest, context: grpc.ServicerContext) -> ReloadConfigResponse:
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        self._manager.reload(from_proto(request.config), min(_remaining_s(context), RELOAD_WAIT_S))
        return ReloadConfigResponse()

    def _acquire(self, spec: ModelSpec) -> Servable:
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        return self._manager.acquire(spec.name, self._version(spec))

    def _version(self, spec: ModelSpec) -> int | None:
        choice = spec.WhichOneof("version_choice")
        if choice is None:
            return None
        if choice == "version_label":
            return self._manager.version_of_label(spec.name, spec.version_label)
        version: int = spec.version.value
        return version


def _remaining_s(context: grpc.ServicerContext) -> float:
    """Seconds to the caller's deadline; infinite without a deadline."""
    remaining: float | None = context.time_remaining()
    return math.inf if remaining is None else remaining


def _answering(method: Callable[[Any, grpc.ServicerContext], Any], request: Any, response: Any) -> Any:
    def answer(message: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(message, context)
        except StatusError as error:
            context.abort(error.code, error.message)

    return grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=request.FromString, response_serializer=response.SerializeToString
    )


def handlers(services: Services) -> "list[grpc.GenericRpcHandler[Any, Any]]":  # generic only in its stubs
    """The handlers of a gRPC server that offers `services`."""
    # The generated servicer classes need methods in camel case; a table of handlers is enough.
    prediction = {
        "Predict": _answering(services.predict, PredictRequest, PredictResponse),
        "GetModelMetadata": _answering(services.get_model_metadata, GetModelMetadataRequest, GetModelMetadataResponse),
    }
    model = {
        "GetModelStatus": _answering(services.get_model_status, GetModelStatusRequest, GetModelStatusResponse),
        "HandleReloadConfigRequest": _answering(
            services.handle_reload_config, ReloadConfigRequest, ReloadConfigResponse
        ),
    }
    return [
        grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", prediction),
        grpc.method_handlers_generic_handler("tensorflow.serving.ModelService", model),
    ]
