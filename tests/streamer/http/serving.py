"""An endpoint on a free port of loopback, with a client."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import structlog
from multidict import CIMultiDictProxy

from streamer.http.endpoint import Endpoint
from streamer.http.exchange import Exchange, Process
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.types import Origin, Record, ScoreMessage

WAIT_S = 30.0


@dataclass
class Stages:
    """Stages that answer when `answers` is set.

    Attributes:
        records: those that have arrived.
        cancelled: how many were cancelled.
    """

    message: ScoreMessage = field(default_factory=lambda: ScoreMessage("r", "ok", Origin("t", 0, 0)))
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    records: list[Record] = field(default_factory=list)
    cancelled: int = 0

    async def process(self, record: Record, exchange: Exchange) -> ScoreMessage:
        self.records.append(record)
        self.arrived.set()
        try:
            await self.answers.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        await exchange.publish(record.origin, record.key, b"the answer", record.headers)
        return self.message


class CountingMetrics(Metrics):
    """Metrics that tell when a request ends."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = asyncio.Event()

    def http_answered(self, code: int, seconds: float) -> None:
        super().http_answered(code, seconds)
        self.ended.set()


@dataclass
class Client:
    """The open endpoint, its metrics, and a session for requests to it."""

    endpoint: Endpoint
    metrics: "CountingMetrics"
    session: aiohttp.ClientSession

    async def post(
        self, body: object = b"{}", path: str = "/v1/score", **headers: str
    ) -> tuple[int, bytes, CIMultiDictProxy[str]]:
        """Status, body and headers of a reply; `_` in the name of a header means `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.post(path, data=body, headers=named) as reply:
            return reply.status, await reply.read(), reply.headers

    def counted(self, code: int) -> float:
        """Requests that ended with this code."""
        return self.metrics.registry.get_sample_value("streamer_http_requests_total", {"code": str(code)}) or 0.0


async def turns_until(holds: Callable[[], bool]) -> None:
    """Lets the other tasks run until it holds."""
    for _ in range(100_000):
        if holds():
            return
        await asyncio.sleep(0)


def settings_of(**changes: dict[str, object]) -> Settings:
    """The default settings with a free port and these changes."""
    return Settings.model_validate({**changes, "http": {"port": 0, **changes.get("http", {})}})


@asynccontextmanager
async def serving(process: Process, settings: Settings | None = None, scheme: str = "http") -> AsyncIterator[Client]:
    """An open endpoint until the end of the block."""
    metrics = CountingMetrics()
    endpoint = Endpoint(
        settings or settings_of(), process, metrics, structlog.get_logger(), asyncio.get_running_loop().time
    )
    await endpoint.start()
    endpoint.open()
    try:
        async with (
            asyncio.timeout(WAIT_S),
            aiohttp.ClientSession(f"{scheme}://127.0.0.1:{endpoint.port}") as session,
        ):
            yield Client(endpoint, metrics, session)
    finally:
        await endpoint.stop()
