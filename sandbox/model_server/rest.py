"""Starts the REST API of a server, with its metrics, where flags ask for it."""

import logging

from sandbox.model_server.flags import ServerFlags
from sandbox.model_server.rest_api import RestApi
from sandbox.model_server.rest_server import RestServer
from sandbox.model_server.services import Services
from sandbox.model_server.status import StatusError
from sandbox.model_server.text_files import InvalidTextError, MonitoringConfig, read_text_file

_log = logging.getLogger(__name__)

_METRICS_PATH = "/monitoring/prometheus/metrics"


def start_rest(flags: ServerFlags, services: Services) -> RestServer | None:
    """Opens the REST port; None, after a log, if it cannot: the gRPC API then serves alone."""
    if flags.rest_api_port == flags.port:
        _log.error(
            "server_options.http_port cannot be same as grpc_port. Please use a different port for HTTP/REST API. "
            "Skipped exporting HTTP/REST API."
        )
        return None
    try:
        api = RestApi(services, flags, _metrics_path(flags))
    except InvalidTextError as error:
        _log.error(
            "Error parsing text-format tensorflow.serving.MonitoringConfig: %s", error.reason.replace(" :", ":", 1)
        )
        return None
    except StatusError as error:
        _log.error("The HTTP/REST API is off: %s", error)
        return None
    server = RestServer(api.answer, flags.rest_api_port, flags.rest_api_num_threads)
    try:
        server.start()
    except OSError:
        _log.error("Failed to start HTTP Server at localhost:%d", flags.rest_api_port)
        return None
    _log.info("Exporting HTTP/REST API at:localhost:%d ...", flags.rest_api_port)
    return server


def _metrics_path(flags: ServerFlags) -> str | None:
    """The path of the metrics' page; None without one. Raises `StatusError`."""
    if not flags.monitoring_config_file:
        return None
    config = read_text_file(flags.monitoring_config_file, MonitoringConfig()).prometheus_config
    return (config.path or _METRICS_PATH) if config.enable else None
