"""Publishes the rows that some requests were scored by, for training. Nobody waits for it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

import xxhash
from structlog.typing import FilteringBoundLogger

from streamer.errors import MessageTooLargeError
from streamer.features import encode_served
from streamer.metrics import Metrics
from streamer.prepared_version import PreparedVersion
from streamer.settings.sections import FeatureLogSettings
from streamer.types import EncodedRequest

Publish = Callable[[bytes | None, bytes], Awaitable[None]]
"""Sends a line with the key of its request; returns when the brokers have it."""

Outcome = Literal["logged", "failed", "dropped"]


class FeatureLog:
    """Logs a share of the requests, one at a time.

    Promises: an answer never waits for it, nor is changed by it; at most `max_queued_requests` wait for it, beyond they
    are left out, and counted; whether a request is in the sample follows from its id, so a repeat of it is as
    well. It is no part of delivery: what waits when a worker ends is not logged.
    """

    def __init__(
        self, publish: Publish, settings: FeatureLogSettings, *, metrics: Metrics, log: FilteringBoundLogger
    ) -> None:
        self._publish = publish
        self._settings = settings
        self._metrics = metrics
        self._log = log
        self._waiting: asyncio.Queue[tuple[bytes | None, str, PreparedVersion, EncodedRequest]] = asyncio.Queue(
            settings.max_queued_requests
        )

    def offer(self, key: bytes | None, request_id: str, serving: PreparedVersion, encoded: EncodedRequest) -> None:
        """A request was scored by these rows; they are logged if it is in the sample."""
        if not is_sampled(request_id, self._settings.share):
            return
        try:
            self._waiting.put_nowait((key, request_id, serving, encoded))
        except asyncio.QueueFull:
            self._count("dropped")

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            key, request_id, serving, encoded = await self._waiting.get()
            try:
                line = encode_served(request_id, serving.encoder.spec.hash, serving.version, encoded)
                async with asyncio.timeout(self._settings.timeout_ms / 1e3):
                    await self._publish(key, line)
            except (MessageTooLargeError, TimeoutError, TypeError) as error:  # TypeError: text that is no UTF-8
                self._count("failed")
                self._log.warning("rows not logged", request_id=request_id, error=repr(error))
            else:
                self._count("logged")

    def _count(self, outcome: Outcome) -> None:
        self._metrics.feature_log.labels(outcome).inc()


def is_sampled(request_id: str, share: float) -> bool:
    """Whether a request is among the `share`, in [0, 1], of those that are logged."""
    return xxhash.xxh3_64_intdigest(request_id.encode(errors="surrogatepass")) < share * 2.0**64
