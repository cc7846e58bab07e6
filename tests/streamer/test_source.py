"""How much may be read; what becomes of it is seen on a real broker, in tests/end_to_end."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog

from streamer import kafka
from streamer.delivery import Delivery
from streamer.metrics import Metrics
from streamer.offsets import OffsetTracker
from streamer.settings import Settings
from streamer.source import Source
from streamer.types import Partition

P: Partition = ("t", 0)


@asynccontextmanager
async def source_of(
    offsets: OffsetTracker, source: Mapping[str, Any], max_uncommitted: int = 1000
) -> AsyncIterator[Source]:
    """A source whose consumer is not started."""
    settings = Settings.model_validate({"source": source})
    consumer = kafka.consumer(settings)

    async def no_commits(_: object) -> Mapping[Partition, tuple[int, str]]:
        return {}

    shared: dict[str, Any] = {"metrics": Metrics(), "log": structlog.get_logger()}
    delivery = Delivery(consumer, offsets, None, no_commits, settings, **shared)
    try:
        yield Source(
            consumer, offsets, delivery, settings.source, revoke_s=1.0, max_uncommitted=max_uncommitted, **shared
        )
    finally:
        await consumer.stop()


async def test_bytes_in_flight_stop_reading_until_they_are_done() -> None:
    offsets = OffsetTracker()
    async with source_of(offsets, {"max_in_flight_bytes": 100}) as source:
        offsets.received(P, 0, 60)
        assert source.room() > 0
        offsets.received(P, 1, 40)
        assert source.room() <= 0
        offsets.done(P, 1)
        assert source.room() > 0


async def test_records_unacknowledged_stop_reading() -> None:
    offsets = OffsetTracker()
    async with source_of(offsets, {"max_in_flight_records": 9, "max_unacknowledged_records": 3}) as source:
        for offset in range(3):
            assert source.room() == 3 - offset
            offsets.received(P, offset)
        assert source.room() == 0


async def test_records_uncommitted_stop_reading_though_they_are_done() -> None:
    offsets = OffsetTracker()
    async with source_of(offsets, {}, max_uncommitted=2) as source:
        for offset in range(2):
            offsets.received(P, offset)
            offsets.done(P, offset)
        assert source.room() == 0
        offsets.committed({P: 1})
        assert source.room() == 1
