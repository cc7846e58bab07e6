"""The gRPC services on a `Manager`."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest, ClassificationResponse
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest, MultiInferenceResponse
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest, ReloadConfigResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
from tensorflow_serving.apis.regression_pb2 import RegressionRequest, RegressionResponse

from sandbox.model_server.config import from_proto
from sandbox.model_server.flags import ServerFlags
from sandbox.model_server.health import health_handler
from sandbox.model_server.inference import classify, multi_inference, regress
from sandbox.model_server.manager import Manager
from sandbox.model_server.monitoring import ServerMetrics
from sandbox.model_server.predict import predict
from sandbox.model_server.servable import Servable
from sandbox.model_server.signature import DEFAULT_SIGNATURE
from sandbox.model_server.status import StatusError, code_number, invalid_argument

_Method = Callable[[Any, grpc.ServicerContext], Any]


class Services:
    """The RPCs.

    Each method takes a request message and returns the response or raises `StatusError`.
    """

    def __init__(self, manager: Manager, flags: ServerFlags, metrics: ServerMetrics) -> None:
        self.metrics = metrics
        self._manager = manager
        self._as_content = flags.enable_serialization_as_tensor_content
        self._check_method = flags.enable_signature_method_name_check

    def predict(self, request: PredictRequest, context: grpc.ServicerContext) -> PredictResponse:
        with self._acquired(request) as servable, self._runtime(servable, "Predict"):
            return predict(servable, request, remaining_s=_limit_s(context), as_content=self._as_content)

    def classify(self, request: ClassificationRequest, context: grpc.ServicerContext) -> ClassificationResponse:
        with self._acquired(request) as servable, self._runtime(servable, "Classify"):
            name = request.model_spec.signature_name
            result = classify(
                servable, name, request.input, remaining_s=_limit_s(context), check_method=self._check_method
            )
            self.metrics.examples(servable.id.name, len(result.classifications))
            return ClassificationResponse(result=result, model_spec=_answered(servable, name))

    def regress(self, request: RegressionRequest, context: grpc.ServicerContext) -> RegressionResponse:
        with self._acquired(request) as servable, self._runtime(servable, "Regress"):
            name = request.model_spec.signature_name
            result = regress(
                servable, name, request.input, remaining_s=_limit_s(context), check_method=self._check_method
            )
            self.metrics.examples(servable.id.name, len(result.regressions))
            return RegressionResponse(result=result, model_spec=_answered(servable, name))

    def multi_inference(self, request: MultiInferenceRequest, context: grpc.ServicerContext) -> MultiInferenceResponse:
        with self.held(request.tasks[0].model_spec if request.tasks else ModelSpec()) as servable:
            return multi_inference(servable, request, remaining_s=_limit_s(context), check_method=self._check_method)

    def get_model_metadata(self, request: GetModelMetadataRequest, _: grpc.ServicerContext) -> GetModelMetadataResponse:
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid_argument(f"Metadata field {field} is not supported")
        with self.held(request.model_spec) as servable:
            response = GetModelMetadataResponse()
            response.model_spec.name = servable.id.name
            response.model_spec.version.value = servable.id.version
            response.metadata["signature_def"].Pack(SignatureDefMap(signature_def=servable.definitions))
            return response

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
        self._manager.reload(from_proto(request.config, self._manager.models), _remaining_s(context))
        response = ReloadConfigResponse()
        response.status.SetInParent()
        return response

    def _acquired(self, request: Any) -> AbstractContextManager[Servable]:
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        return self.held(request.model_spec)

    def _runtime(self, servable: Servable, api: str) -> AbstractContextManager[None]:
        return self.metrics.runtime(servable.id.name, api)

    @contextmanager
    def held(self, spec: ModelSpec) -> Iterator[Servable]:
        """The version that a call names, which stays loaded within the block."""
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        servable = self._manager.acquire(spec.name, self._version(spec))
        try:
            yield servable
        finally:
            servable.release()

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


def _limit_s(context: grpc.ServicerContext) -> float:
    """`_remaining_s` of a call that waits for its answer.

    Read last: the time in the queue counts, and an expired call must cost no inference. Raises `StatusError`.
    """
    remaining_s = _remaining_s(context)
    if remaining_s <= 0.0 or not context.is_active():
        raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    return remaining_s


def _answered(servable: Servable, signature_name: str) -> ModelSpec:
    spec = ModelSpec(name=servable.id.name, signature_name=signature_name or DEFAULT_SIGNATURE)
    spec.version.value = servable.id.version
    return spec


def _answering(method: _Method, request: Any) -> Any:
    def answer(message: bytes, context: grpc.ServicerContext) -> bytes:
        # Parsed here: gRPC itself would add a text to the status of a message that cannot be parsed.
        try:
            parsed = request.FromString(message)
        except DecodeError:
            context.abort(grpc.StatusCode.INTERNAL, "")
        try:
            encoded: bytes = method(parsed, context).SerializeToString()
        except StatusError as error:
            context.abort(error.code, error.message)
        return encoded

    return grpc.unary_unary_rpc_method_handler(answer)


def _counted(method: _Method, api: str, metrics: ServerMetrics) -> _Method:
    """The method of an API, which counts and measures its calls."""

    def counted(request: Any, context: grpc.ServicerContext) -> Any:
        tasks = request.tasks[:1] if api == "MultiInference" else [request]
        with metrics.request("".join(task.model_spec.name for task in tasks), api, "GRPC"):
            return method(request, context)

    return counted


class _Unimplemented(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic only in its stubs
    """Rejects every method without a text; gRPC itself would add one."""

    def service(self, _: grpc.HandlerCallDetails) -> Any:
        return grpc.stream_stream_rpc_method_handler(
            lambda _, context: context.abort(grpc.StatusCode.UNIMPLEMENTED, "")
        )


def handlers(services: Services, flags: ServerFlags) -> "list[grpc.GenericRpcHandler[Any, Any]]":
    """The handlers of a gRPC server that offers `services`."""
    # The generated servicer classes need methods in camel case; a table of handlers is enough.
    metrics = services.metrics
    prediction = {
        "Predict": _answering(_counted(services.predict, "Predict", metrics), PredictRequest),
        "Classify": _answering(_counted(services.classify, "Classify", metrics), ClassificationRequest),
        "Regress": _answering(_counted(services.regress, "Regress", metrics), RegressionRequest),
        "MultiInference": _answering(
            _counted(services.multi_inference, "MultiInference", metrics), MultiInferenceRequest
        ),
        "GetModelMetadata": _answering(services.get_model_metadata, GetModelMetadataRequest),
    }
    model = {
        "GetModelStatus": _answering(services.get_model_status, GetModelStatusRequest),
        "HandleReloadConfigRequest": _answering(services.handle_reload_config, ReloadConfigRequest),
    }
    return [
        grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", prediction),
        grpc.method_handlers_generic_handler("tensorflow.serving.ModelService", model),
        *([health_handler()] if flags.enable_grpc_healthcheck_service else []),
        _Unimplemented(),
    ]
