"""`streamer serve-http`: answers requests over HTTP, without Kafka, until a signal stops it."""

import os
from typing import Annotated

import typer

from streamer.commands.local_files import check_files
from streamer.commands.options import Config
from streamer.commands.run import logger, run_alone
from streamer.settings import load_settings


def serve_http(
    config: Config = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="TCP port. Default: http.port, or else 8080.")
    ] = None,
) -> None:
    """Answer `POST /v1/score`: a bid request as JSON, its answer as on the topic of answers.

    It needs model servers, and Kafka only with `ads.topic`. SIGTERM drains and exits with 0; a second signal exits at
    once.
    """
    if port is not None:
        os.environ["STREAMER_HTTP__PORT"] = str(port)
    settings = load_settings(config)
    check_files(settings, kafka=settings.ads.topic is not None)
    log = logger(settings)
    from streamer.http_service import HttpService  # noqa: PLC0415

    if not run_alone(HttpService(settings, log).run()):
        raise typer.Exit(1)
