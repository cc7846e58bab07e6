"""How a worker begins and ends where what it waits for does not come."""

import asyncio
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import get_args

import aiohttp
import pytest
import structlog
from aiokafka.errors import ClusterAuthorizationFailedError, InvalidTransactionTimeout, LeaderNotAvailableError
from structlog.testing import capture_logs

from streamer.errors import ConfigError, FencedError
from streamer.http.endpoint import Endpoint
from streamer.kafka import clients
from streamer.kafka.aiokafka_coordinator import InstanceReplacedError
from streamer.kafka.offsets import OffsetTracker
from streamer.lifecycle import State
from streamer.service import Service
from streamer.settings import Settings
from streamer.settings.deployment import HttpSettings
from streamer.testing.consumer_group import FakeConsumer, FakeGroup
from streamer.testing.model_servers import VirtualServers
from streamer.types import DeadLetter, Header, Origin, Partition
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


class Accepted(Refused):
    """Brokers that accept dead letters as soon as `accepts` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.accepts = asyncio.Event()
        self.count = 0

    async def dead_letter(self, letter: DeadLetter) -> None:
        self.asked.set()
        await self.accepts.wait()
        self.count += 1


async def never(_: bytes | None, *__: object) -> None:
    raise AssertionError("no version is in the shadow, and nothing is logged")


async def test_a_drain_does_not_wait_for_records_that_are_somebody_elses_now() -> None:
    """They are sent again until they are acknowledged; this worker no longer counts them."""
    group, offsets, answers = FakeGroup("t", 1), OffsetTracker(), Refused()
    service, servers = Service(SETTINGS, structlog.get_logger()), VirtualServers([loaded(1)])
    models = service.assembly.models(servers, None)
    await models.refresh()
    source = service.assembly.source(FakeConsumer(group), offsets, group.commits_of)
    await source.start()

    scorer = service.assembly.scorer(
        source, servers, answers, models=models, cache=None, publish_shadow=never, publish_rows=never
    )
    work = asyncio.create_task(service.work(source, scorer))
    async with asyncio.timeout(WAIT_S):
        group.produce(0, b"no request", round(time.time() * 1e3))
        await answers.asked.wait()
        await group.rebalance([])
        assert source.unacknowledged == 0
        service.stop()
        assert await work is True, "all that was this worker's"


class ReplacedService(Service):
    """A worker whose start is over; its answers need no brokers."""

    def __init__(self, scoring: Callable[[Service], Awaitable[bool]]) -> None:
        changed = {**SETTINGS.model_dump(), "ops": {"port": 0}, "kafka": {"group_instance_id": "a"}}
        super().__init__(Settings.model_validate(changed), structlog.get_logger())
        self._scoring = scoring

    async def _serve(self, stack: AsyncExitStack) -> bool:
        return await self._scoring(self)


@pytest.mark.parametrize("is_fenced", [False, True])
async def test_a_worker_whose_static_name_is_taken_answers_and_ends_with_the_reason(is_fenced: bool) -> None:
    """With `exactly_once` the younger process usually fences it before the next heartbeat."""
    group, offsets, letters = FakeGroup("t", 1), OffsetTracker(), Accepted()

    async def scoring(service: Service) -> bool:
        servers, consumer = VirtualServers([loaded(1)]), FakeConsumer(group)
        models = service.assembly.models(servers, None)
        await models.refresh()
        source = service.assembly.source(consumer, offsets, group.commits_of)
        await source.start()

        async def commit() -> None:
            raise FencedError("t", 0)

        if is_fenced:
            source.commit_when_due = commit  # type: ignore[method-assign]
        scorer = service.assembly.scorer(
            source, servers, letters, models=models, cache=None, publish_shadow=never, publish_rows=never
        )
        work = asyncio.create_task(service.work(source, scorer))
        group.produce(0, b"no request", round(time.time() * 1e3))
        await letters.asked.wait()
        consumer.failures = [InstanceReplacedError("a", "client x at y")]
        group.produce(0, b"of the younger process", round(time.time() * 1e3))
        await asyncio.sleep(0)
        letters.accepts.set()
        return await work

    async with asyncio.timeout(WAIT_S):
        with pytest.raises(ConfigError, match="another process has taken the name 'a'"):
            await ReplacedService(scoring).run()
    assert letters.count == 1
    assert offsets.unacknowledged == 0


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

    starting = asyncio.create_task(service.life.until_done("brokers", join, OSError))
    async with asyncio.timeout(WAIT_S):
        await asked.wait()
        service.stop()
        await starting
    assert given_up.is_set()


async def test_a_rejection_by_the_brokers_stops_the_start_with_one_line() -> None:
    """Only errors that a retry can solve are retried."""
    service = Service(SETTINGS, structlog.get_logger())

    async def connect() -> None:
        raise ClusterAuthorizationFailedError

    async with asyncio.timeout(WAIT_S):
        with pytest.raises(ConfigError, match=r"^kafka: the brokers reject this worker: .*ClusterAuthorizationFailed"):
            await service.life.until_done("brokers", connect, clients.UNAVAILABLE)


async def test_a_failure_of_the_brokers_that_passes_is_no_rejection() -> None:
    """The exit status of a rejection would make the supervisor drain all workers."""
    service = Service(SETTINGS, structlog.get_logger())
    failures = [LeaderNotAvailableError()]

    async def connect() -> None:
        if failures:
            raise failures.pop()

    async with asyncio.timeout(WAIT_S):
        await service.life.until_done("brokers", connect, clients.UNAVAILABLE)


async def test_a_transaction_timeout_that_the_brokers_reject_ends_the_retries_of_an_opening() -> None:
    """Whether it is above the brokers' limit is unknown before, without the right to read that."""
    group = FakeGroup("t", 1)

    async def commits_of(*_: object) -> dict[Partition, tuple[int, str]]:
        raise InvalidTransactionTimeout

    source = Service(SETTINGS, structlog.get_logger()).assembly.source(FakeConsumer(group), OffsetTracker(), commits_of)
    async with asyncio.timeout(WAIT_S):
        await source.start()
        with pytest.raises(ConfigError, match=r"^delivery.transaction_timeout_ms is 10000, the brokers do not accept"):
            await anext(source.chunks())


@pytest.mark.parametrize("max_bytes", [2**55, 2**70])
def test_a_cache_that_no_machine_has_memory_for_names_its_setting(max_bytes: int) -> None:
    settings = Settings.model_validate({"cache": {"max_bytes": max_bytes}})
    with pytest.raises(ConfigError, match=r"^cache.max_bytes: "):
        Service(settings, structlog.get_logger()).assembly.cache()


# A worker that drains until it reads a line.
DRAINING = """
import asyncio, sys, structlog
from streamer.service import Service
from streamer.settings import Settings

class Draining(Service):
    async def _serve(self, stack):
        print("running", flush=True)
        await self.life.stopping.wait()
        print("draining", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        return True

supervisor = {"link": 0} if sys.argv[1] == "supervised" else {}
settings = Settings.model_validate({"ops": {"port": 0}, "supervisor": supervisor})
asyncio.run(Draining(settings, structlog.get_logger()).run())
"""


@pytest.mark.parametrize(("argument", "status"), [("alone", 128 + signal.SIGTERM), ("supervised", 0)])
async def test_a_second_signal_ends_a_worker_at_once_unless_its_supervisor_does_that(
    argument: str, status: int
) -> None:
    """A supervisor's death closes the link and sends SIGTERM; a process manager may signal all processes."""
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", DRAINING, argument, stdin=PIPE, stdout=PIPE)
    assert worker.stdin is not None
    assert worker.stdout is not None
    async with asyncio.timeout(WAIT_S):
        while b"running" not in await worker.stdout.readline():
            pass
        worker.send_signal(signal.SIGTERM)
        while await worker.stdout.readline() != b"draining\n":
            pass
        worker.send_signal(signal.SIGTERM)
        if argument == "supervised":
            worker.stdin.write(b"\n")
        assert await worker.wait() == status


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
        service.life.state = state
        if after in following:
            service.life.enter(after)
            assert service.life.state == after
        else:
            with pytest.raises(AssertionError):
                service.life.enter(after)
            assert service.life.state == state


class Supervised:
    """A worker's end of a link whose supervisor sends nothing by itself."""

    def __init__(self) -> None:
        self.admitted = asyncio.Event()

    async def run(self, *_: object) -> None:
        await asyncio.Event().wait()


async def working(service: Service) -> tuple[Endpoint, Supervised, "asyncio.Task[bool]"]:
    """The work of a worker under a supervisor, with an endpoint."""
    group, link, servers = FakeGroup("t", 1), Supervised(), VirtualServers([loaded(1)])
    models = service.assembly.models(servers, None)
    await models.refresh()
    source = service.assembly.source(FakeConsumer(group), OffsetTracker(), group.commits_of)
    await source.start()
    scorer = service.assembly.scorer(
        source, servers, Refused(), models=models, cache=None, publish_shadow=never, publish_rows=never
    )
    service._link = link  # type: ignore[assignment]  # noqa: SLF001
    endpoint = service.assembly.endpoint(scorer.pipeline)
    return endpoint, link, asyncio.create_task(service.work(source, scorer, endpoint))


async def turns_until(holds: Callable[[], bool]) -> None:
    for _ in range(100_000):
        if holds():
            return
        await asyncio.sleep(0)


async def test_a_worker_answers_over_http_when_it_has_the_supervisors_orders() -> None:
    """Before, it could answer with a version that an operator has rolled back."""
    changed = {**SETTINGS.model_dump(), "http": {"port": 0}, "supervisor": {"link": 0}}
    service = Service(Settings.model_validate(changed), structlog.get_logger())
    async with asyncio.timeout(WAIT_S):
        endpoint, link, work = await working(service)
        await turns_until(lambda: service.life.state == "RUNNING")
        assert endpoint.port == 0, "it does not listen"
        link.admitted.set()
        await turns_until(lambda: endpoint.port != 0)
        url = f"http://127.0.0.1:{endpoint.port}/v1/score"
        async with aiohttp.ClientSession() as session, session.post(url, data=b"no request") as reply:
            assert reply.status == 400
        service.stop()
        assert await work is True


async def test_a_request_over_http_without_a_reply_is_no_record_that_is_read_again() -> None:
    changed = {**SETTINGS.model_dump(), "http": {"port": 0}}
    with capture_logs() as lines:
        service = Service(Settings.model_validate(changed), structlog.get_logger())
        async with asyncio.timeout(WAIT_S):
            endpoint, link, work = await working(service)
            link.admitted.set()
            await turns_until(lambda: endpoint.port != 0)
            reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
            writer.write(b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
            in_flight = partial(service.metrics.registry.get_sample_value, "streamer_http_in_flight_requests")
            await turns_until(lambda: in_flight() == 1)
            service.stop()
            assert await work is False
            assert await reader.read() == b""
            writer.close()
    errors = [(line["event"], line.get("requests")) for line in lines if line["log_level"] == "error"]
    assert errors == [("drained in part, requests over HTTP get no reply", 1)]


async def test_a_worker_that_cannot_listen_drains_with_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        async def serve(service: Service) -> bool:
            _, link, work = await working(service)
            link.admitted.set()
            return await work

        service = ReplacedService(serve)
        service.settings = service.settings.model_copy(update={"http": HttpSettings(port=port)})
        service.assembly = replace(service.assembly, settings=service.settings)
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(ConfigError, match=rf"^http: cannot listen on 127.0.0.1:{port}: "):
                await service.run()
