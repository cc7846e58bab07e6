"""What the clocks of producers tell a doctor that watches a topic."""

import asyncio

import pytest

from streamer.kafka.facts import Clocks, watched
from streamer.testing.consumer_group import FakeConsumer, FakeGroup
from streamer.testing.virtual_loop import virtual


def now_ms() -> int:
    return round(asyncio.get_running_loop().time() * 1e3)


def watch(group: FakeGroup) -> "asyncio.Task[Clocks]":
    reader = FakeConsumer(group, is_member=False)
    return asyncio.create_task(watched(reader, group.tops, 15.0, asyncio.get_running_loop().time))


@virtual
async def test_a_request_that_has_waited_for_the_reader_is_no_late_one() -> None:
    group = FakeGroup("t", 2)
    group.produce(0, b"before", now_ms() - 5000)
    start, seen = now_ms(), watch(group)
    await asyncio.sleep(0.05)
    group.produce(0, b"waited", now_ms() - 40)
    await asyncio.sleep(0.45)
    group.produce(1, b"at once", now_ms() - 3)
    assert await seen == Clocks(-3, 3)
    assert now_ms() - start < 1000, "a young one is enough"


@virtual
async def test_requests_that_are_late_are_watched_to_the_end() -> None:
    group = FakeGroup("t", 1)
    start, seen = now_ms(), watch(group)
    for age_ms in (60, 40, 50):
        await asyncio.sleep(0.3)
        group.produce(0, b"late", now_ms() - age_ms)
    assert await seen == pytest.approx((-40, 40))
    assert now_ms() - start >= 2000


@virtual
async def test_requests_without_a_timestamp_tell_nothing() -> None:
    group = FakeGroup("t", 1)
    group.produce(0, b"before", -1)
    seen = watch(group)
    await asyncio.sleep(0.3)
    group.produce(0, b"new", -1)
    assert await seen == Clocks(None, None)


@virtual
async def test_a_clock_that_is_ahead_is_seen_in_the_last_requests() -> None:
    group = FakeGroup("t", 1)
    group.produce(0, b"ahead", now_ms() + 9000)
    assert await watch(group) == Clocks(9000, None)
