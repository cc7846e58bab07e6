"""The run of one server process: loads the models, then opens the ports."""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc

from sandbox.model_server.config import ModelConfig, read_config
from sandbox.model_server.flags import ServerFlags, channel_arguments
from sandbox.model_server.manager import Manager
from sandbox.model_server.services import RELOAD_WAIT_S, Services, handlers
from sandbox.model_server.status import StatusError

if TYPE_CHECKING:
    from sandbox.model_server.rest_server import RestServer

_log = logging.getLogger(__name__)

# Active calls have this long to end after the signal to stop.
GRACE_S = 10.0


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
                manager.reload(configs, RELOAD_WAIT_S)
        except StatusError as error:
            _log.error("PollFilesystemAndReloadConfig failed to ReloadConfig: %s", error.message)


def _serve(flags: ServerFlags, manager: Manager, stop: threading.Event) -> None:
    services = Services(manager, flags)
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", 2**31 - 1),
        ("grpc.max_send_message_length", 2**31 - 1),
        ("grpc.so_reuseport", 0),
        *channel_arguments(flags),
    ]
    threads = ThreadPoolExecutor(flags.grpc_max_threads, thread_name_prefix="grpc")
    server = grpc.server(threads, handlers=handlers(services, flags), options=options)
    if flags.port:
        server.add_insecure_port(f"0.0.0.0:{flags.port}")
        _log.info("Running gRPC ModelServer at 0.0.0.0:%d ...", flags.port)
    if flags.grpc_socket_path:
        server.add_insecure_port(f"unix:{flags.grpc_socket_path}")
        _log.info("Running gRPC ModelServer at UNIX socket %s ...", flags.grpc_socket_path)
    server.start()
    rest = _start_rest(flags, manager, services)
    stop.wait()
    _log.info("Stopping: active calls have %.0f s to end", GRACE_S)
    stopped = server.stop(GRACE_S)
    if rest is not None:
        rest.close()
    stopped.wait(GRACE_S + 1.0)
    threads.shutdown(wait=False, cancel_futures=True)


def _start_rest(flags: ServerFlags, manager: Manager, services: Services) -> "RestServer | None":
    if not flags.rest_api_port:
        return None
    # Imported here: aiohttp takes time and memory that a server without this port does not need.
    from sandbox.model_server.rest_server import start_rest  # noqa: PLC0415

    return start_rest(flags, manager, services)
