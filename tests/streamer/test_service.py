"""How a worker begins and ends where what it waits for does not come."""

import asyncio
import time
from collections.abc import Sequence
from typing import get_args

import pytest
import structlog

from streamer.kafka.offsets import OffsetTracker
from streamer.service import Service, State
from streamer.settings import Settings
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
    """They are sent again until they are acknowledged; this worker no longer counts them."""
    group, offsets, answers = FakeGroup("t", 1), OffsetTracker(), Refused()
    service, servers = Service(SETTINGS, structlog.get_logger()), VirtualServers([loaded(1)])
    models = service.assembly.models(servers, None)
    await models.refresh()
    source = service.assembly.source(FakeConsumer(group), offsets, group.commits_of)
    await source.start()

    async def publish(_: bytes | None, *__: object) -> None:
        raise AssertionError("no version is in the shadow, and nothing is logged")

    scorer = service.assembly.scorer(
        source, servers, answers, models=models, cache=None, publish_shadow=publish, publish_rows=publish
    )
    work = asyncio.create_task(service.work(source, scorer))
    async with asyncio.timeout(WAIT_S):
        group.produce(0, b"no request", round(time.time() * 1e3))
        await answers.asked.wait()
        await group.rebalance([])
        assert source.unacknowledged == 0
        service.stop()
        assert await work is True, "all that was this worker's"


async def test_a_signal_is_heard_while_the_start_waits() -> None:
    """The group is never joined, or partitions cannot be opened; the client retries both."""
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
        await starting
    assert given_up.is_set()


@pytest.mark.parametrize(
    ("state", "following"),
    [
        ("STARTING", {"RUNNING", "STOPPED"}),
        ("RUNNING", {"DRAINING", "STOPPED"}),
        ("DRAINING", {"STOPPED"}),
        ("STOPPED", set()),
    ],
)
async def test_a_worker_enters_no_state_but_those_that_may_follow(state: State, following: set[State]) -> None:
    for after in get_args(State):
        service = Service(SETTINGS, structlog.get_logger())
        service.state = state
        if after in following:
            service._enter(after)  # noqa: SLF001  a state is entered by a start or a signal, not by a call
            assert service.state == after
        else:
            with pytest.raises(AssertionError):
                service._enter(after)  # noqa: SLF001
            assert service.state == state
