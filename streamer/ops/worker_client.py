"""HTTP client of a supervisor for the operations sockets of its workers."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Literal

import aiohttp
from pydantic import SecretStr

from streamer.types import Partition

_TIMEOUT_S = 10.0

Reply = tuple[int, str]
"""HTTP status and text. Status 503 with a reason if the worker does not answer."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker number of a supervisor.

    Attributes:
        pid: None while no process runs.
        partitions: those that it reads, opens or releases.
    """

    number: int
    pid: int | None
    state: Literal["starting", "standby", "active", "draining", "down"]
    partitions: frozenset[Partition] = frozenset()


@dataclass(frozen=True, slots=True)
class WorkerClient:
    """Sends requests to one worker or to all of them.

    Attributes:
        workers: the workers at the moment.
        socket: the operations socket of a worker.
    """

    workers: Callable[[], list[WorkerView]]
    socket: Callable[[int], Path]
    token: SecretStr | None = None

    async def send_all(self, method: str, path: str, timeout_s: float = _TIMEOUT_S) -> dict[int, Reply]:
        """Sends a request to all workers concurrently; returns the reply of each."""
        workers = self.workers()
        replies = await asyncio.gather(*(self._send(worker, method, path, timeout_s) for worker in workers))
        return {worker.number: reply for worker, reply in zip(workers, replies, strict=True)}

    async def _send(self, worker: WorkerView, method: str, path: str, timeout_s: float) -> Reply:
        if worker.pid is None:
            return HTTPStatus.SERVICE_UNAVAILABLE, "does not run"
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token.get_secret_value()}"}
        connector = aiohttp.UnixConnector(str(self.socket(worker.number)))
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session,
                session.request(method, f"http://worker{path}") as response,
            ):
                return response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, f"does not answer: {error!r}"
