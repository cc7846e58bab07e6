"""`streamer run`: one worker, or several under a supervisor, until a signal stops them."""

import asyncio
import ctypes
import gc
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from structlog.typing import FilteringBoundLogger

from streamer import logs
from streamer.commands.local_files import check_files
from streamer.commands.options import Config
from streamer.log_stream import replace_stderr
from streamer.metrics import LOG_LINES_DROPPED
from streamer.settings import Settings, load_settings

_PR_SET_PDEATHSIG = 1


def run(
    config: Config = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes under a supervisor. Default: supervisor.workers.")
    ] = None,
    standby: Annotated[
        int | None, typer.Option(min=0, help="Standby processes with --workers. Default: supervisor.standby.")
    ] = None,
) -> None:
    """Consume bid requests, score their candidates, publish the answers.

    Without --workers one process works alone. SIGTERM drains and exits with 0; a second signal exits at once. SIGHUP
    replaces the workers one after the other, without a gap.
    """
    for name, value in {"WORKERS": workers, "STANDBY": standby}.items():
        if value is not None:
            os.environ[f"STREAMER_SUPERVISOR__{name}"] = str(value)
    settings = load_settings(config)
    if settings.supervisor.link is None:  # else the supervisor has read them
        check_files(settings)
    log = logger(settings)
    alone = settings.supervisor.workers is None or settings.supervisor.link is not None
    status = _work(settings, log) if alone else _supervise(settings, log, config)
    if status:
        raise typer.Exit(status)


def logger(settings: Settings) -> FilteringBoundLogger:
    """The logger of a process that scores; a stalled reader of its lines delays nothing."""
    replace_stderr(LOG_LINES_DROPPED.inc)
    # gRPC's own lines are no JSON, have no limit, and its thread waits for a reader that stalls. Its errors have the
    # same texts.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    return logs.configure(settings.service)


def run_alone(work: Coroutine[Any, Any, bool]) -> bool:
    """Runs the work of this process on its event loop."""
    import uvloop  # noqa: PLC0415

    # Imported modules stay in memory. A garbage collection that visits them stops the loop for 40 ms.
    gc.collect()
    gc.freeze()
    gc.enable()
    return uvloop.run(work)


def _work(settings: Settings, log: FilteringBoundLogger) -> int:
    # Collections take a tenth of the time of the imports, and find nothing. `run_alone` ends this.
    gc.disable()
    # Imported here, so that --help and wrong settings do not wait for gRPC and the Kafka client.
    from streamer.service import Service  # noqa: PLC0415

    if settings.supervisor.link is not None:
        log = log.bind(client_id=settings.kafka.client_id)
        _drain_with_parent()
        if _is_closed(settings.supervisor.link):
            log.error("the supervisor has ended during the start")
            return 1

    return 0 if run_alone(Service(settings, log).run()) else 1


def _supervise(settings: Settings, log: FilteringBoundLogger, config: Path | None) -> int:
    from streamer.kafka.member import GroupMember  # noqa: PLC0415
    from streamer.supervision.supervisor import Supervisor  # noqa: PLC0415
    from streamer.supervision.worker_process import Program  # noqa: PLC0415

    command = [sys.executable, "-m", "streamer", "run", *(() if config is None else ("--config", str(config)))]
    new_member = partial(GroupMember, settings, log)
    program = Program(command, os.environ, lambda: check_files(load_settings(config)))
    supervisor = Supervisor(settings, log, program, new_member)
    return asyncio.run(supervisor.run())


def _drain_with_parent() -> None:
    """Makes the kernel send SIGTERM to this worker when its supervisor dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def _is_closed(link: int) -> bool:
    """Whether the supervisor died before the kernel knew that this worker waits for that."""
    with socket.socket(fileno=os.dup(link)) as end:
        try:
            return not end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
