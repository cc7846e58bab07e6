"""Channels to model servers: gRPC's options, credentials, and calls that raise PredictError."""

import asyncio
import os
import ssl
from collections.abc import Mapping
from operator import methodcaller
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from streamer.errors import BadReplyError, ConfigError, PredictError
from streamer.serving.extended_channel import ExtendedConnector
from streamer.serving.names import host_and_port
from streamer.serving.protos import get_model_metadata_pb2, get_model_status_pb2, predict_pb2
from streamer.serving.proxies import is_local, proxy_variable
from streamer.serving.rest_channel import RestChannel
from streamer.serving.transport import MAX_DETAIL, CallHeaders, Channel, ChannelOptions, Rpc, classified
from streamer.settings.sections import PredictorSettings

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


_REPLIES: Mapping[Rpc, Any] = {rpc: getattr(module, f"{rpc}Response") for rpc, (_, module) in _RPCS.items()}


class GrpcChannel:
    """A gRPC channel to one address."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self.address = address
        self._channel = channel
        # Replies are decoded here: of a reply that gRPC cannot decode only a log line remains, and None.
        self._replies = _REPLIES
        self._methods: dict[Rpc, Any] = {
            rpc: channel.unary_unary(
                f"/tensorflow.serving.{service}/{rpc}",
                request_serializer=methodcaller("SerializeToString"),
                response_deserializer=bytes,
            )
            for rpc, (service, _) in _RPCS.items()
        }

    async def call(self, rpc: Rpc, request: Any, seconds: float, headers: CallHeaders = ()) -> Any:
        """As `Channel.call`."""
        try:
            reply = await self._methods[rpc](request, timeout=seconds, metadata=headers or None)
        except grpc.aio.AioRpcError as error:
            raise classified(error.code().name, error.details() or "no details") from None
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
            raise PredictError("UNKNOWN", f"{error!r:.{MAX_DETAIL}}") from error
        try:
            return self._replies[rpc].FromString(reply)
        except DecodeError as error:
            raise BadReplyError("INVALID_REPLY", f"the reply to {rpc} cannot be decoded: {error}") from None

    async def close(self, grace_s: float | None = None) -> None:
        """Closes the channel, and cancels the calls that are active after `grace_s`."""
        await self._channel.close(grace_s)


def tls_context(settings: PredictorSettings) -> ssl.SSLContext | None:
    """The TLS files of the settings; None without TLS.

    Raises:
        ConfigError: a TLS file cannot be used.
    """
    if not settings.tls:
        return None
    authority, key, certificate = settings.tls_ca_file, settings.tls_key_file, settings.tls_cert_file
    try:
        context = ssl.create_default_context(cafile=authority)
    except (OSError, ValueError) as error:
        raise ConfigError(f"predictor.tls_ca_file: {authority}: cannot be used: {error}") from error
    try:
        if certificate is not None:
            context.load_cert_chain(certificate, key, "")
    except (OSError, ValueError) as error:
        raise ConfigError(f"predictor.tls_cert_file: {certificate} with {key}: cannot be used: {error}") from error
    return context


def _grpc_credentials(settings: PredictorSettings) -> grpc.ChannelCredentials:
    """The credentials for gRPC, which takes any bytes: then no connection succeeds."""
    files = (settings.tls_ca_file, settings.tls_key_file, settings.tls_cert_file)
    return grpc.ssl_channel_credentials(*(None if file is None else file.read_bytes() for file in files))


class Connector:
    """Makes channels as the settings say; it waits for no connection."""

    def __init__(self, settings: PredictorSettings) -> None:
        """Raises ConfigError: a TLS file cannot be used, or the protocol of another package."""
        self._server_name = settings.tls_server_name
        self._is_rest = settings.protocol == "rest"
        is_own = settings.protocol in ("grpc", "rest")
        self._extended = None if is_own else ExtendedConnector(settings.protocol, _REPLIES)
        self._tls = tls_context(settings)
        self._credentials = None if self._tls is None or settings.protocol != "grpc" else _grpc_credentials(settings)

    def channel(self, address: str, name: tuple[str, int] | None = None) -> Channel:
        """A channel to an address.

        `name`: the host and the port that led to the address. Calls and the check of the certificate use them.

        Raises:
            ConfigError: the factory of another package fails.
        """
        if self._extended is not None:
            return self._extended.channel(address, ChannelOptions(name, self._tls, self._server_name))
        # No proxy can reach this machine's own servers for it. A name that a proxy would resolve is not resolved here.
        variable = None if name is not None else proxy_variable(address, os.environ)
        server_name = self._server_name
        if name is not None:
            server_name = server_name or name[0]
        if self._is_rest:
            host, port = host_and_port(address) or (None, None)
            return RestChannel(
                address,
                address if host is None else f"{host}:{port}",
                tls=self._tls,
                server_name=server_name,
                host_header=None if name is None else f"{name[0]}:{name[1]}",
                proxy=None if variable is None else os.environ[variable],
            )
        options = [*_OPTIONS]
        if name is not None or is_local(address):
            options.append(("grpc.enable_http_proxy", 0))
        if name is not None:
            options.append(("grpc.default_authority", f"{name[0]}:{name[1]}"))
        if self._credentials is None:
            return GrpcChannel(address, grpc.aio.insecure_channel(address, options=options))
        if server_name is not None:
            options.append(("grpc.ssl_target_name_override", server_name))
        return GrpcChannel(address, grpc.aio.secure_channel(address, self._credentials, options=options))
