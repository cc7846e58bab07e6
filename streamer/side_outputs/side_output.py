"""A bounded queue of work beside the answers."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import Counter
from structlog.typing import FilteringBoundLogger

from streamer.errors import StreamerError

Work = Callable[[], Awaitable[None]]
_MAX_QUEUED_BYTES = 16 * 2**20


class Limits(Protocol):
    """The bounds of a side output: its section of the settings."""

    @property
    def max_queued_requests(self) -> int: ...
    @property
    def timeout_ms(self) -> float: ...


@dataclass(slots=True)
class SideOutput:
    """Does the work of some requests after or beside their answers, one request at a time.

    1. An answer never waits for a side output and is never changed by it.
    2. At most `max_queued_requests` and 16 MiB wait. Further requests are dropped, and so is a request that leaves the
       queue while `is_busy()`.
    3. Each request is counted once, as `published`, `failed` or `dropped`; a failure is also logged.
    4. The delivery guarantee does not include it: queued requests are lost when the worker ends.
    """

    limits: Limits
    outcomes: Counter
    log: FilteringBoundLogger
    is_busy: Callable[[], bool] = lambda: False
    _queue: asyncio.Queue[tuple[Mapping[str, str], Work, int]] = field(init=False)
    _queued_bytes: int = 0

    def __post_init__(self) -> None:
        self._queue = asyncio.Queue(self.limits.max_queued_requests)

    def add(self, request: str, work: Work, size: int, **names: str) -> None:
        """Queues the work of a request; a full queue drops it.

        `request` and `names` name it in the log; `size`: the bytes that the work keeps in memory.
        """
        if self._queue.full() or self._queued_bytes + size > _MAX_QUEUED_BYTES:
            self.outcomes.labels("dropped").inc()
            return
        self._queued_bytes += size
        self._queue.put_nowait(({"request": request, **names}, work, size))

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            names, work, size = await self._queue.get()
            self._queued_bytes -= size
            outcome = "dropped" if self.is_busy() else await self._do(names, work)
            self.outcomes.labels(outcome).inc()

    async def _do(self, names: Mapping[str, str], work: Work) -> str:
        try:
            async with asyncio.timeout(self.limits.timeout_ms / 1e3):
                await work()
        except (StreamerError, TimeoutError, TypeError) as error:  # TypeError: an id that is not UTF-8
            self.log.warning("side output failed", **names, error=repr(error))
            return "failed"
        except Exception:
            # A defect that one request triggers: the worker, and each next owner of the record, would end.
            self.log.exception("side output failed", **names)
            return "failed"
        return "published"
