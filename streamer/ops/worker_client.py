"""HTTP client of a supervisor for the operations sockets of its workers."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import aiohttp
from pydantic import SecretStr

_TIMEOUT_S = 10.0

Reply = tuple[int, str]
"""HTTP status and text. Status 503 with a reason if the worker does not answer."""


@dataclass(frozen=True, slots=True)
class WorkerClient:
    """Sends requests to one worker or to all of them.

    Attributes:
        sockets: the operations socket of each worker, by its number.
        is_running: whether a worker has a process at the moment.
    """

    sockets: Mapping[int, Path]
    is_running: Callable[[int], bool]
    token: SecretStr | None = None

    async def is_ready(self, number: int) -> bool:
        """Whether a worker scores records."""
        return (await self._send(number, "GET", "/readyz", _TIMEOUT_S))[0] == HTTPStatus.OK

    async def send_all(self, method: str, path: str, timeout_s: float = _TIMEOUT_S) -> dict[int, Reply]:
        """Sends a request to all workers concurrently; returns the reply of each."""
        replies = await asyncio.gather(*(self._send(number, method, path, timeout_s) for number in self.sockets))
        return dict(zip(self.sockets, replies, strict=True))

    async def _send(self, number: int, method: str, path: str, timeout_s: float) -> Reply:
        if not self.is_running(number):
            return HTTPStatus.SERVICE_UNAVAILABLE, "does not run"
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token.get_secret_value()}"}
        connector, timeout = aiohttp.UnixConnector(str(self.sockets[number])), aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session,
                session.request(method, f"http://worker{path}") as response,
            ):
                return response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, f"does not answer: {error!r}"
