"""How much may be read; what becomes of it is seen on a real broker, in tests/end_to_end."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiokafka.structs import ConsumerRecord

import streamer
from streamer.kafka import clients
from streamer.kafka.delivery import Delivery
from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.source import Source
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.types import Partition

P: Partition = ("t", 0)


@asynccontextmanager
async def source_of(
    offsets: OffsetTracker, source: Mapping[str, Any], max_uncommitted: int = 1000, wall_s: float = 1_700_000_000.0
) -> AsyncIterator[Source]:
    """A source whose consumer is not started. Its monotonic clock stands at 50 s, the wall clock at `wall_s`."""
    settings = Settings.model_validate({"source": source})
    consumer = clients.consumer(settings)

    async def no_commits(_: object) -> Mapping[Partition, tuple[int, str]]:
        return {}

    shared: dict[str, Any] = {"metrics": Metrics(), "log": structlog.get_logger()}
    delivery = Delivery(consumer, offsets, None, no_commits, settings, **shared)
    try:
        yield Source(
            consumer,
            offsets,
            delivery,
            settings.source,
            revoke_s=1.0,
            max_uncommitted=max_uncommitted,
            clock=lambda: 50.0,
            wall_clock=lambda: wall_s,
            **shared,
        )
    finally:
        await consumer.stop()


async def test_bytes_in_flight_stop_reading_until_they_are_done() -> None:
    offsets = OffsetTracker()
    async with source_of(offsets, {"max_unacknowledged_bytes": 100}) as source:
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


@pytest.mark.parametrize(
    ("deadline_from", "age_ms", "left_ms"),
    [
        ("record", 0, 30.0),
        ("record", 12, 18.0),
        ("record", 5_000, -4_970.0),
        ("record", -3_600_000, 30.0),  # a clock that is an hour ahead
        ("record", None, 30.0),  # a client that sets no timestamp: brokers keep -1
        ("arrival", 12, 30.0),
        ("arrival", 5_000, 30.0),
    ],
)
async def test_the_budget_begins_at_the_records_timestamp_or_at_its_receipt(
    deadline_from: str, age_ms: int | None, left_ms: float
) -> None:
    wall_s = 1_700_000_000.0
    settings = {"deadline_from": deadline_from, "budget_ms": 30.0}
    async with source_of(OffsetTracker(), settings, wall_s=wall_s) as source:
        timestamp_ms = -1 if age_ms is None else round(1e3 * wall_s) - age_ms
        record = ConsumerRecord("t", 0, 7, timestamp_ms, 0, b"u", b"{}", None, 1, 2, ())
        received = source._receive(record, False)  # noqa: SLF001  a chunk of records needs a broker
    assert 1e3 * received.deadline.remaining(50.0) == pytest.approx(left_ms, abs=1e-3)
    assert received.at == 50.0


def test_the_wall_clock_is_read_where_a_record_enters_and_nowhere_else() -> None:
    """Differences of it go wrong whenever it is set; `streamer dlq` and the page at /status show times to people."""
    root = Path(streamer.__file__).parent
    reading = re.compile(r"\btime\.time\b|\btime_ns\b|\.(?:utc)?now\(|\.today\(")
    found = {str(file.relative_to(root)) for file in root.rglob("*.py") if reading.search(file.read_text())}
    assert found == {"kafka/source.py", "ops/status_page.py", "commands/dlq.py"}
