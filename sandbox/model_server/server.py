"""The run of one server process: loads the models, then opens the ports."""

import logging
import threading
import time
from collections.abc import Sequence

import grpc

from sandbox.model_server.call_threads import CallThreads, RejectWhenFull
from sandbox.model_server.config import ModelConfig, read_config
from sandbox.model_server.flags import ServerFlags, channel_arguments
from sandbox.model_server.manager import Manager
from sandbox.model_server.monitoring import ServerMetrics
from sandbox.model_server.services import Services, handlers
from sandbox.model_server.status import StatusError
from sandbox.model_server.text_files import SslConfig, read_text_file

_log = logging.getLogger(__name__)


def serve(flags: ServerFlags, configs: Sequence[ModelConfig]) -> None:
    """Loads the models, opens the ports and serves until a signal ends the process.

    Raises:
        StatusError: a label cannot be assigned, a port is taken, or no version of a model can be loaded.
    """
    metrics = ServerMetrics()
    manager = Manager(flags, metrics)
    manager.start(configs)
    manager.wait_until_available(config.name for config in configs)
    services = Services(manager, flags, metrics)
    server = _listen(flags, services)
    if flags.rest_api_port:
        # Imported here: aiohttp takes time and memory that a server without this port does not need.
        from sandbox.model_server.rest import start_rest  # noqa: PLC0415

        start_rest(flags, services)
    if flags.model_config_file and flags.model_config_file_poll_wait_seconds > 0:
        threading.Thread(target=_reread_config, args=(flags, manager), name="config", daemon=True).start()
    server.wait_for_termination()


def _reread_config(flags: ServerFlags, manager: Manager) -> None:
    """Applies the file at each poll; a failed change is retried at the next poll."""
    while True:
        time.sleep(flags.model_config_file_poll_wait_seconds)
        try:
            if (configs := read_config(flags)) is not None:
                manager.reload(configs)
        except StatusError as error:
            _log.error("PollFilesystemAndReloadConfig failed to ReloadConfig: %s", error)


def _listen(flags: ServerFlags, services: Services) -> grpc.Server:
    """A gRPC server that answers on the ports of the flags."""
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", 2**31 - 1),
        ("grpc.max_send_message_length", 2**31 - 1),
        *channel_arguments(flags),
    ]
    threads = CallThreads(flags.grpc_max_threads)
    server = grpc.server(
        threads, handlers=handlers(services, flags), interceptors=[RejectWhenFull(threads)], options=options
    )
    try:
        if flags.port:
            _add_port(server, f"0.0.0.0:{flags.port}", flags)
            _log.info("Running gRPC ModelServer at 0.0.0.0:%d ...", flags.port)
        if flags.grpc_socket_path:
            server.add_insecure_port(f"unix:{flags.grpc_socket_path}")
            _log.info("Running gRPC ModelServer at UNIX socket %s ...", flags.grpc_socket_path)
    except RuntimeError as error:
        raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, f"Failed to BuildAndStart gRPC server: {error}") from None
    server.start()
    return server


def _add_port(server: grpc.Server, address: str, flags: ServerFlags) -> None:
    if not flags.ssl_config_file:
        server.add_insecure_port(address)
        return
    config = read_text_file(flags.ssl_config_file, SslConfig())
    credentials = grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )
    server.add_secure_port(address, credentials)
