"""`streamer run`: one worker, until it is told to stop."""

from pathlib import Path
from typing import Annotated

import typer

from streamer.settings import load_settings


def run(
    config: Annotated[Path | None, typer.Option(help="Settings (YAML). STREAMER_… variables win over it.")] = None,
) -> None:
    """Consume bid requests, score their candidates, publish the answers.

    SIGTERM drains and exits with 0; a second signal ends at once.
    """
    # Imported here, so that --help and wrong settings do not wait for gRPC and Kafka clients.
    import uvloop  # noqa: PLC0415

    from streamer import logs  # noqa: PLC0415
    from streamer.service import Service  # noqa: PLC0415

    settings = load_settings(config)
    log = logs.configure(settings.service)

    async def serve() -> bool:
        return await Service(settings, log).run()

    if not uvloop.run(serve()):
        raise typer.Exit(1)
