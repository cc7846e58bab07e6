"""The gRPC services on a `Manager`, and the run of one server process."""

import logging
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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

from sandbox.model_server.config import ModelConfig, from_proto, read_config
from sandbox.model_server.flags import ServerFlags, channel_arguments
from sandbox.model_server.manager import Manager
from sandbox.model_server.predict import predict
from sandbox.model_server.servable import Servable
from sandbox.model_server.status import StatusError, code_number, invalid_argument

_log = logging.getLogger(__name__)

# Active calls have this long to end after the signal to stop.
GRACE_S = 10.0
_RELOAD_WAIT_S = 300.0


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
        self._manager.reload(from_proto(request.config), min(_remaining_s(context), _RELOAD_WAIT_S))
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


def _handlers(services: Services) -> "list[grpc.GenericRpcHandler[Any, Any]]":  # generic only in its stubs
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


def serve(flags: ServerFlags, configs: Sequence[ModelConfig], stop: threading.Event) -> None:
    """Loads the models, opens the port, serves until `stop` is set, then drains.

    Raises:
        StatusError: a label cannot be assigned, or no version of a model can be loaded.
        RuntimeError: another process uses the port.
    """
    manager = Manager(flags)
    try:
        manager.start(configs)
        manager.wait_until_available((config.name for config in configs), cancelled=stop.is_set)
        if flags.model_config_file and flags.model_config_file_poll_wait_seconds:
            threading.Thread(target=_reread_config, args=(flags, manager, stop), name="config", daemon=True).start()
        if not stop.is_set():
            _serve(flags, manager, stop)
    finally:
        manager.close(GRACE_S)


def _reread_config(flags: ServerFlags, manager: Manager, stop: threading.Event) -> None:
    """Applies the file at each poll; a failed change is retried at the next poll."""
    while not stop.wait(flags.model_config_file_poll_wait_seconds):
        try:
            if (configs := read_config(flags)) is not None:
                manager.reload(configs, _RELOAD_WAIT_S)
        except StatusError as error:
            _log.error("PollFilesystemAndReloadConfig failed to ReloadConfig: %s", error.message)


def _serve(flags: ServerFlags, manager: Manager, stop: threading.Event) -> None:
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", 2**31 - 1),
        ("grpc.max_send_message_length", 2**31 - 1),
        ("grpc.so_reuseport", 0),
        *channel_arguments(flags),
    ]
    threads = ThreadPoolExecutor(flags.grpc_max_threads, thread_name_prefix="grpc")
    server = grpc.server(threads, handlers=_handlers(Services(manager, flags)), options=options)
    if flags.port:
        server.add_insecure_port(f"0.0.0.0:{flags.port}")
        _log.info("Running gRPC ModelServer at 0.0.0.0:%d ...", flags.port)
    if flags.grpc_socket_path:
        server.add_insecure_port(f"unix:{flags.grpc_socket_path}")
        _log.info("Running gRPC ModelServer at UNIX socket %s ...", flags.grpc_socket_path)
    server.start()
    stop.wait()
    _log.info("Stopping: active calls have %.0f s to end", GRACE_S)
    server.stop(GRACE_S).wait(GRACE_S + 1.0)
    threads.shutdown(wait=False, cancel_futures=True)
