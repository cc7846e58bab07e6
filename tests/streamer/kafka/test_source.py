"""Deadlines and gauges of the source; tests/end_to_end tests its reading on a real broker."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from aiokafka.errors import IllegalStateError
from structlog.testing import capture_logs

import streamer
from streamer.assembly import Assembly
from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.source import Source
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.tasks import TaskOwner
from streamer.testing.consumer_group import FakeConsumer, FakeGroup
from streamer.testing.virtual_loop import virtual
from streamer.types import Record

WAIT_S = 30.0
NOW_S = 50.0
WALL_S = 1_700_000_000.0


async def started(
    group: FakeGroup,
    metrics: Metrics,
    wall_clock: Callable[[], float] = lambda: WALL_S,
    clock: Callable[[], float] = lambda: NOW_S,
    **source: object,
) -> Source:
    """A member of the group. Its monotonic clock is at `NOW_S`, its wall clock at `WALL_S`."""
    settings = Settings.model_validate({"source": {"topic": "t", **source}})
    assembly = Assembly(settings, metrics, structlog.get_logger(), clock, TaskOwner().spawn)
    member = assembly.source(FakeConsumer(group), OffsetTracker(), group.commits_of, wall_clock=wall_clock)
    await member.start()
    return member


async def first_chunk(source: Source) -> list[Record]:
    async with asyncio.timeout(WAIT_S):
        return await anext(source.chunks())


@pytest.mark.parametrize(
    ("deadline_from", "age_ms", "left_ms"),
    [
        ("record", 0, 30.0),
        ("record", 12, 18.0),
        ("record", 5_000, -4_970.0),
        ("record", -3_600_000, 30.0),  # a clock that is an hour ahead
        ("record", None, 30.0),  # a producer that sets no timestamp: brokers keep -1
        ("arrival", 12, 30.0),
        ("arrival", 5_000, 30.0),
    ],
)
async def test_the_budget_begins_at_the_records_timestamp_or_at_its_receipt(
    deadline_from: str, age_ms: int | None, left_ms: float
) -> None:
    group = FakeGroup("t", 1)
    source = await started(group, Metrics(), deadline_from=deadline_from, budget_ms=30.0)
    group.produce(0, b"{}", -1 if age_ms is None else round(1e3 * WALL_S) - age_ms)
    (record,) = await first_chunk(source)
    assert 1e3 * record.deadline.remaining(NOW_S) == pytest.approx(left_ms, abs=1e-3)
    assert record.at == NOW_S


@pytest.mark.parametrize(
    ("by_s", "left_ms", "lag_s"),
    [
        (3600.0, -3_599_970.0, 3600.0),  # each new request looks an hour old
        (-3600.0, 30.0, 0.0),  # each has its whole budget from its receipt
    ],
)
async def test_a_wall_clock_that_jumps_concerns_only_budgets_until_it_is_right_again(
    by_s: float, left_ms: float, lag_s: float
) -> None:
    group, metrics, clock = FakeGroup("t", 1), Metrics(), [WALL_S]
    source = await started(group, metrics, lambda: clock[0], budget_ms=30.0)
    chunks = source.chunks()
    for clock[0], expected_ms, behind_s in ((WALL_S, 30.0, 0.0), (WALL_S + by_s, left_ms, lag_s), (WALL_S, 30.0, 0.0)):
        group.produce(0, b"{}", round(1e3 * WALL_S))
        async with asyncio.timeout(WAIT_S):
            (record,) = await anext(chunks)
        assert 1e3 * record.deadline.remaining(NOW_S) == pytest.approx(expected_ms, abs=1e-3)
        source.lag.measure()
        assert metrics.registry.get_sample_value("streamer_source_lag_seconds", {"partition": "0"}) == behind_s
        source.answered()
        source.acknowledged(record.origin)
    assert source.unacknowledged == 0


async def test_an_answered_record_is_unacknowledged_and_no_longer_in_flight() -> None:
    metrics, group = Metrics(), FakeGroup("t", 1)

    def gauges() -> list[float | None]:
        names = ("in_flight_records", "unacknowledged_records", "unacknowledged_bytes")
        return [metrics.registry.get_sample_value(f"streamer_source_{name}") for name in names]

    source = await started(group, metrics)
    for _ in range(3):
        group.produce(0, b"four")
    records = await first_chunk(source)
    assert gauges() == [3, 3, 12]
    source.answered()
    source.answered()
    assert gauges() == [1, 3, 12]
    source.acknowledged(records[0].origin)
    assert gauges() == [1, 2, 8]
    assert metrics.registry.get_sample_value("streamer_source_acknowledged_records_total") == 1
    assert source.unacknowledged == 2


def test_the_wall_clock_is_read_where_a_record_enters_and_nowhere_else() -> None:
    """A duration by the wall clock is wrong when the clock is set; the others show or compare times of day."""
    root = Path(streamer.__file__).parent
    reading = re.compile(r"\btime\.time\b|\btime_ns\b|\.(?:utc)?now\(|\.today\(")
    found = {str(file.relative_to(root)) for file in root.rglob("*.py") if reading.search(file.read_text())}
    entering, showing = {"kafka/receipt.py"}, {"ops/status_page.py", "commands/dlq.py", "commands/table.py"}
    sending = {"tracing/export_thread.py"}  # spans have times of day
    assert found == {*entering, *showing, *sending, "kafka/facts.py", "tables/store.py"}


@virtual
async def test_a_partition_that_cannot_be_read_delays_no_other_and_is_tried_again() -> None:
    metrics, group, clock = Metrics(), FakeGroup("t", 2), asyncio.get_running_loop().time

    def unreadable() -> float | None:
        return metrics.registry.get_sample_value("streamer_source_unreadable_partitions", {"partition": "0"})

    source = await started(group, metrics, clock=clock)
    group.damaged[group.tops[0]] = 2
    for number in (0, 1):
        for _ in range(4):
            group.produce(number, b"r")
    chunks, began = source.chunks(), clock()
    with capture_logs() as lines:
        found = [(one.origin.partition, one.origin.offset) for _ in range(2) for one in await anext(chunks)]
        assert found == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3)]
        assert clock() == began
        reading = asyncio.ensure_future(anext(chunks))
        for after_s in (0.2, 1.0, 2.0, 4.0):
            await asyncio.sleep(after_s)
            group.appended.set()
            assert unreadable() == 1
        del group.damaged[group.tops[0]]
        await asyncio.sleep(8.0)
        group.appended.set()
        assert [one.origin.offset for one in await reading] == [2, 3]
    assert unreadable() is None
    failed = [line for line in lines if line["event"] == "partition cannot be read, retried"]
    assert [(line["topic"], line["partition"], line["offset"]) for line in failed] == [("t", 0, 2)] * 4
    assert [line["retry_s"] for line in failed] == [1.0, 2.0, 4.0, 8.0]
    assert lines[-1]["event"] == "partition readable again"


@virtual
async def test_records_of_a_fetch_that_ends_in_an_error_are_read_again() -> None:
    group = FakeGroup("t", 2)
    source = await started(group, Metrics(), clock=asyncio.get_running_loop().time)

    async def position(_: object) -> int:
        source.consumer.position = FakeConsumer.position.__get__(source.consumer)
        raise IllegalStateError("Partition is not assigned")

    source.consumer.position = position
    await asyncio.sleep(1.0)
    group.produce(0, b"r")
    (record,) = await first_chunk(source)
    assert record.value == b"r"


async def test_the_bytes_of_headers_count() -> None:
    metrics, group = Metrics(), FakeGroup("t", 1)
    source = await started(group, metrics)
    group.produce(0, b"four", headers=(("trace", b"12345"), ("none", None)))
    await first_chunk(source)
    assert metrics.registry.get_sample_value("streamer_source_unacknowledged_bytes") == 4 + 160 + 10 + 160 + 4
