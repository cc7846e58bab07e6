"""gRPC channels to model servers: options, credentials, and calls that raise PredictError."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import grpc
import grpc.aio

from streamer.errors import ConfigError, PredictError, VersionGoneError
from streamer.serving.protos import get_model_metadata_pb2, get_model_status_pb2, predict_pb2
from streamer.settings.sections import PredictorSettings

Rpc = Literal["Predict", "GetModelMetadata", "GetModelStatus"]
# For each method: its service, and the module that defines its request and its reply.
_RPCS: Mapping[Rpc, tuple[str, Any]] = {
    "Predict": ("PredictionService", predict_pb2),
    "GetModelMetadata": ("PredictionService", get_model_metadata_pb2),
    "GetModelStatus": ("ModelService", get_model_status_pb2),
}
_MAX_MESSAGE_BYTES = 64 * 2**20
_OPTIONS = (
    # The default back-off grows to 120 s; a server that has restarted must get calls again soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Also the timeout of one connection attempt.
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)


class Channel:
    """A channel to one address; `dns:///name` may lead to several servers."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self.address = address
        self._channel = channel
        self._methods: dict[Rpc, Any] = {
            rpc: channel.unary_unary(
                f"/tensorflow.serving.{service}/{rpc}",
                request_serializer=getattr(module, f"{rpc}Request").SerializeToString,
                response_deserializer=getattr(module, f"{rpc}Response").FromString,
            )
            for rpc, (service, module) in _RPCS.items()
        }

    async def call(self, rpc: Rpc, request: Any, seconds: float) -> Any:
        """Calls a method once, with a timeout, and returns the reply.

        Raises:
            VersionGoneError: the server does not have the model, the version or the label's version.
            PredictError: the call failed; the code is the gRPC status, or CLOSED after `close`.
        """
        try:
            return await self._methods[rpc](request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            kind = VersionGoneError if error.code() is grpc.StatusCode.NOT_FOUND else PredictError
            raise kind(error.code().name, error.details() or "no details") from None
        except grpc.aio.UsageError as error:
            raise PredictError("CLOSED", str(error)) from None
        except grpc.RpcError as error:
            raise PredictError("UNKNOWN", str(error)) from None

    async def close(self) -> None:
        """Closes the channel and cancels its active calls."""
        await self._channel.close(None)


def connect(settings: PredictorSettings) -> list[Channel]:
    """A channel for each address, without waiting for its connection.

    Raises:
        ConfigError: a TLS file cannot be read.
    """
    if not settings.tls:
        return [Channel(name, grpc.aio.insecure_channel(name, options=_OPTIONS)) for name in settings.addresses]
    files = (settings.tls_ca_file, settings.tls_key_file, settings.tls_cert_file)
    try:
        authority, key, certificate = (None if file is None else file.read_bytes() for file in files)
    except OSError as error:
        raise ConfigError(f"predictor: {error.filename} cannot be read: {error.strerror}") from error
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    options: Sequence[tuple[str, Any]] = _OPTIONS
    if settings.tls_server_name is not None:
        options = (*_OPTIONS, ("grpc.ssl_target_name_override", settings.tls_server_name))
    return [Channel(name, grpc.aio.secure_channel(name, credentials, options=options)) for name in settings.addresses]
