"""gRPC channels to model servers: options, credentials, and calls that raise PredictError."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Literal

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from streamer.errors import BadReplyError, ConfigError, PredictError, VersionGoneError
from streamer.serving.protos import get_model_metadata_pb2, get_model_status_pb2, predict_pb2
from streamer.serving.proxies import is_local
from streamer.settings.sections import PredictorSettings

Rpc = Literal["Predict", "GetModelMetadata", "GetModelStatus"]
# For each method: its service, and the module that defines its request and its reply.
_RPCS: Mapping[Rpc, tuple[str, Any]] = {
    "Predict": ("PredictionService", predict_pb2),
    "GetModelMetadata": ("PredictionService", get_model_metadata_pb2),
    "GetModelStatus": ("ModelService", get_model_status_pb2),
}
_MAX_MESSAGE_BYTES = 64 * 2**20
_OPTIONS: tuple[tuple[str, Any], ...] = (
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


_MAX_DETAIL = 300


def _classified(code: grpc.StatusCode, detail: str) -> PredictError:
    """The error of a call that ended with this status."""
    detail = detail[:_MAX_DETAIL]
    if code is grpc.StatusCode.NOT_FOUND:
        return VersionGoneError(code.name, detail)
    # The code of a full server, although this one is not full: a smaller message succeeds.
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than max" in detail:
        return PredictError("MESSAGE_TOO_LARGE", detail)
    return PredictError(code.name, detail)


class Channel:
    """A channel to one address."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self.address = address
        self._channel = channel
        # Replies are decoded here: of a reply that gRPC cannot decode only a log line remains, and None.
        self._replies: dict[Rpc, Any] = {rpc: getattr(module, f"{rpc}Response") for rpc, (_, module) in _RPCS.items()}
        self._methods: dict[Rpc, Any] = {
            rpc: channel.unary_unary(
                f"/tensorflow.serving.{service}/{rpc}",
                request_serializer=getattr(module, f"{rpc}Request").SerializeToString,
                response_deserializer=bytes,
            )
            for rpc, (service, module) in _RPCS.items()
        }

    async def call(self, rpc: Rpc, request: Any, seconds: float) -> Any:
        """Calls a method once, with a timeout, and returns the reply.

        Raises:
            VersionGoneError: the server does not have the model, the version or the label's version.
            BadReplyError: the reply cannot be decoded.
            PredictError: the call failed. The code is the gRPC status, MESSAGE_TOO_LARGE, or CLOSED after `close`.
        """
        try:
            reply = await self._methods[rpc](request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            raise _classified(error.code(), error.details() or "no details") from None
        except grpc.aio.UsageError as error:
            raise PredictError("CLOSED", str(error)) from None
        except asyncio.CancelledError:
            # gRPC cancels the calls of a channel that closes. Only a task that is being cancelled ends here.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise PredictError("CANCELLED", "the channel was closed during the call") from None
        except MemoryError:
            raise  # no fault of the server
        except Exception as error:
            # What gRPC raises beyond these differs by version: InternalError, ValueError, TypeError.
            raise PredictError("UNKNOWN", f"{error!r:.{_MAX_DETAIL}}") from error
        try:
            return self._replies[rpc].FromString(reply)
        except DecodeError as error:
            raise BadReplyError("INVALID_REPLY", f"the reply to {rpc} cannot be decoded: {error}") from None

    async def close(self, grace_s: float | None = None) -> None:
        """Closes the channel, and cancels the calls that are active after `grace_s`."""
        await self._channel.close(grace_s)


def credentials(settings: PredictorSettings) -> grpc.ChannelCredentials | None:
    """The credentials for TLS; None without TLS.

    Raises:
        ConfigError: a TLS file cannot be used.
    """
    if not settings.tls:
        return None
    authority, key, certificate = settings.tls_ca_file, settings.tls_key_file, settings.tls_cert_file
    # gRPC takes any bytes, and then no connection succeeds.
    try:
        context = ssl.create_default_context(cafile=authority)
    except (OSError, ValueError) as error:
        raise ConfigError(f"predictor.tls_ca_file: {authority}: cannot be used: {error}") from error
    try:
        if certificate is not None:
            context.load_cert_chain(certificate, key, "")
    except (OSError, ValueError) as error:
        raise ConfigError(f"predictor.tls_cert_file: {certificate} with {key}: cannot be used: {error}") from error
    contents = (None if file is None else file.read_bytes() for file in (authority, key, certificate))
    return grpc.ssl_channel_credentials(*contents)


class Connector:
    """Makes channels with the credentials of the settings; it waits for no connection."""

    def __init__(self, settings: PredictorSettings) -> None:
        """Raises ConfigError if a TLS file cannot be used."""
        self._server_name = settings.tls_server_name
        self._credentials = credentials(settings)

    def channel(self, address: str, name: tuple[str, int] | None = None) -> Channel:
        """A channel to an address.

        `name`: the host and the port that led to the address. Calls and the check of the certificate use them.
        """
        options = [*_OPTIONS]
        # No proxy can reach this machine's own servers for it. A name that a proxy would resolve is not resolved here.
        if name is not None or is_local(address):
            options.append(("grpc.enable_http_proxy", 0))
        server_name = self._server_name
        if name is not None:
            options.append(("grpc.default_authority", f"{name[0]}:{name[1]}"))
            server_name = server_name or name[0]
        if self._credentials is None:
            return Channel(address, grpc.aio.insecure_channel(address, options=options))
        if server_name is not None:
            options.append(("grpc.ssl_target_name_override", server_name))
        return Channel(address, grpc.aio.secure_channel(address, self._credentials, options=options))
