"""`streamer run`: one worker, or several under a supervisor, until a signal stops them."""

import asyncio
import ctypes
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from structlog.typing import FilteringBoundLogger

from streamer import logs
from streamer.commands.options import Config
from streamer.settings import Settings, load_settings

_PR_SET_PDEATHSIG = 1


def run(
    config: Config = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: supervisor.workers.")] = None,
) -> None:
    """Consume bid requests, score their candidates, publish the answers.

    SIGTERM drains and exits with 0; a second signal exits at once. SIGHUP reloads several workers one after the other.
    """
    if workers is not None:
        os.environ["STREAMER_SUPERVISOR__WORKERS"] = str(workers)
    settings = load_settings(config)
    log = logs.configure(settings.service)
    status = _supervise(settings, log, config) if settings.supervisor.workers > 1 else _work(settings, log)
    if status:
        raise typer.Exit(status)


def _work(settings: Settings, log: FilteringBoundLogger) -> int:
    # Imported here, so that --help and wrong settings do not wait for gRPC and the Kafka client.
    import uvloop  # noqa: PLC0415

    from streamer.service import Service  # noqa: PLC0415

    if settings.ops.socket is not None:
        _drain_with_parent()

    # Imported modules stay in memory. A garbage collection that visits them stops the loop for 40 ms.
    gc.collect()
    gc.freeze()
    return 0 if uvloop.run(Service(settings, log).run()) else 1


def _supervise(settings: Settings, log: FilteringBoundLogger, config: Path | None) -> int:
    from streamer.ops.supervisor import Supervisor, worker_command  # noqa: PLC0415

    supervisor = Supervisor(settings, log, worker_command(config), os.environ, lambda: load_settings(config))
    return asyncio.run(supervisor.run())


def _drain_with_parent() -> None:
    """Makes the kernel send SIGTERM to this worker when its supervisor dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
