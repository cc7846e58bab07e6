"""A worker for the supervisor's tests: a real operations port without a scorer.

`python -m tests.streamer.ops.worker FOLDER` writes FOLDER/<number>-<pid> when it listens; FOLDER/crash makes it end
with status 3 at its start, FOLDER/wrong with status 2. SIGTERM ends it with 0, and FOLDER/drained-<pid> says so.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter

from streamer.ops.http_server import HttpServer
from streamer.ops.worker_handlers import WorkerHandlers
from streamer.settings import load_settings
from tests.streamer.ops.controls import Control, Controls


async def main(folder: Path) -> int:
    for name, status in {"crash": 3, "wrong": 2}.items():
        if (folder / name).exists():
            return status
    settings = load_settings()
    assert settings.ops.socket is not None
    number = settings.kafka.client_id.rpartition("-")[2]
    registry = CollectorRegistry()
    Counter("answers", "answered", ["status"], registry=registry).labels("ok").inc(10 + int(number))
    controls = Controls(Control(), Control())
    config = settings.model_dump_json()
    handlers = WorkerHandlers(registry, lambda: "RUNNING", lambda: None, lambda: controls, config=config)
    server = HttpServer(settings.ops, handlers.routes())
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await server.start()
    (folder / f"{number}-{os.getpid()}").touch()
    await stop.wait()
    await server.stop()
    (folder / f"drained-{os.getpid()}").touch()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]))))
