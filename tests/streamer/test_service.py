"""How a worker begins and ends where what it waits for does not come."""

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from streamer.kafka.delivery import Delivery
from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.source import Source
from streamer.metrics import Metrics
from streamer.rollout.controller import Model
from streamer.rollout.models import Models
from streamer.service import Service
from streamer.settings import Settings
from streamer.side_outputs.feature_log import FeatureLog
from streamer.testing.consumer_group import FakeConsumer, FakeGroup
from streamer.testing.model_servers import VirtualServers
from streamer.types import DeadLetter, Header, Origin
from tests.streamer.rollout.switching import loaded

WAIT_S = 30.0
DRAIN_S = 0.05
SETTINGS = Settings.model_validate({"source": {"topic": "t"}, "service": {"drain_ms": DRAIN_S * 1e3}})


class Refused:
    """Brokers that take no answer."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def publish(self, origin: Origin, key: bytes | None, value: bytes, headers: Sequence[Header]) -> None:
        raise AssertionError("records without an id are dead-lettered")

    async def dead_letter(self, letter: DeadLetter) -> None:
        self.asked.set()
        await asyncio.Event().wait()


async def test_a_drain_does_not_wait_for_records_that_are_somebody_elses_now() -> None:
    """They are sent again until they are taken, and no partition of this worker counts them any more."""
    group, offsets, answers = FakeGroup("t", 1), OffsetTracker(), Refused()
    shared: dict[str, Any] = {"metrics": Metrics(), "log": structlog.get_logger()}
    clock = asyncio.get_running_loop().time
    servers: Any = VirtualServers([loaded(1)])
    models = Models([Model("ctr", servers, SETTINGS, None, clock=clock, **shared)])
    await models.refresh()
    consumer: Any = FakeConsumer(group)
    delivery = Delivery(consumer, offsets, None, group.commits_of, SETTINGS, **shared)
    source = Source(
        consumer, offsets, delivery, SETTINGS.source, revoke_s=DRAIN_S, max_uncommitted=100, clock=clock, **shared
    )
    await source.start()

    async def publish_rows(_: bytes | None, __: bytes) -> None:
        raise AssertionError("nothing is logged")

    feature_log = FeatureLog(publish_rows, SETTINGS.feature_log, **shared)
    service = Service(SETTINGS, structlog.get_logger())
    sink: Any = None  # for the shadow's scores, of which there are none
    work = asyncio.create_task(
        service._work(source, models, servers, sink, feature_log, answers=answers, cache=None)  # noqa: SLF001
    )
    async with asyncio.timeout(WAIT_S):
        group.produce(0, b"no request", round(clock() * 1e3))
        await answers.asked.wait()
        await group.rebalance([])
        assert source.in_flight == 0
        service.stop()
        assert await work is True, "all that was this worker's"


async def test_a_signal_is_heard_while_the_start_waits() -> None:
    """A group that is never joined, or partitions that cannot be opened: the client itself gives up neither."""
    service = Service(SETTINGS, structlog.get_logger())
    asked, given_up = asyncio.Event(), asyncio.Event()

    async def join() -> bool:
        asked.set()
        try:
            return await asyncio.Event().wait()
        finally:
            given_up.set()

    starting = asyncio.create_task(service._until_done("brokers", join, OSError))  # noqa: SLF001
    async with asyncio.timeout(WAIT_S):
        await asked.wait()
        service.stop()
        assert await starting is None
    assert given_up.is_set()
