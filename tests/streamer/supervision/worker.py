"""A worker for the supervisor's tests: a real process, link and operations port without a scorer.

`python -m tests.streamer.supervision.worker FOLDER` writes FOLDER/<number>-<pid> when it listens. FOLDER/crash makes it
end with status 3 at its start, FOLDER/wrong with status 2; FOLDER/unready makes it wait until that file is gone. It
commits offset 1 for each partition that it opens, and offset 2 when it releases it; FOLDER/stuck makes it release
nothing, FOLDER/die kills it when it has sent a commit. FOLDER/commit-<outcome> says how commits end. SIGTERM ends it
with 0, and FOLDER/drained-<pid> says so.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter

from streamer.metrics import LOG_LINES_DROPPED
from streamer.ops.http_server import HttpServer
from streamer.ops.worker_handlers import WorkerHandlers
from streamer.settings import load_settings
from streamer.supervision.worker_link import WorkerLink
from streamer.tasks import TaskOwner
from streamer.types import Partition
from tests.streamer.ops.controls import Control, Controls


@dataclass
class Partitions:
    folder: Path
    link: WorkerLink

    async def open(self, partitions: frozenset[Partition], report: object) -> frozenset[Partition]:
        commit = asyncio.ensure_future(self.commit(dict.fromkeys(partitions, (1, "running"))))
        if (self.folder / "die").exists():
            await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGKILL)
        await commit
        return partitions

    async def release(self, partitions: frozenset[Partition]) -> int:
        while (self.folder / "stuck").exists():  # noqa: ASYNC110  the test removes the file
            await asyncio.sleep(0.01)
        await self.commit(dict.fromkeys(partitions, (2, "clean")))
        return 0

    async def commit(self, offsets: Mapping[Partition, tuple[int, str]]) -> None:
        try:
            outcome = "stored" if await self.link.commit(offsets) else "lost"
        except ConnectionError:
            outcome = "failed"
        (self.folder / f"commit-{outcome}").touch()

    def suspects(self) -> Mapping[Partition, int]:
        return {}


async def main(folder: Path) -> int:
    for name, status in {"crash": 3, "wrong": 2}.items():
        if (folder / name).exists():
            return status
    settings = load_settings()
    assert settings.ops.socket is not None
    assert settings.supervisor.link is not None
    number = settings.kafka.client_id.rpartition("-")[2]
    registry = CollectorRegistry()
    Counter("answers", "answered", ["status"], registry=registry).labels("ok").inc(10 + int(number))
    registry.register(LOG_LINES_DROPPED)
    controls = Controls(Control(), Control("other"))
    config = settings.model_dump_json()
    handlers = WorkerHandlers(registry, lambda: "RUNNING", lambda: None, lambda: controls, config=config)
    server = HttpServer(settings.ops, handlers.routes())
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await server.start()
    (folder / f"{number}-{os.getpid()}").touch()
    while (folder / "unready").exists() and not stop.is_set():  # noqa: ASYNC110  the test removes the file
        await asyncio.sleep(0.01)
    link = await WorkerLink.over(settings.supervisor.link)
    owner = TaskOwner()
    async with owner.running() as tasks:
        tasks.spawn(link.run(Partitions(folder, link), controls, tasks.spawn), "link")
        await stop.wait()
        tasks.cancel()
    await server.stop()
    (folder / f"drained-{os.getpid()}").touch()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]))))
