"""What the brokers reject at a start: one line with the setting and its limit, also without joining."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import InvalidTransactionTimeout
from aiokafka.protocol.admin import ApiVersionResponse_v0
from aiokafka.protocol.metadata import MetadataResponse_v0

from sandbox.broker.kafka import KafkaBroker
from sandbox.host.ports import free_ports
from streamer.errors import ConfigError, UnreachableError
from streamer.kafka import clients, groups, rejections, topics
from streamer.kafka.aiokafka_coordinator import MemberRejectedError
from streamer.kafka.described_group import DescribedGroup
from streamer.settings import Settings
from tests.kafka_fixtures import FreshTopic
from tests.streamer.kafka.members import WAIT_S, joined, settings_of

SESSION_LINE = (
    r"^kafka.session_timeout_ms is 2000000, the brokers accept 1000 to 1800000"
    r" \(group.min.session.timeout.ms, group.max.session.timeout.ms\)$"
)
API_VERSIONS, METADATA = 18, 3

Joining = Callable[[Settings], Awaitable[None]]


@asynccontextmanager
async def consumer(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """The consumer of a worker without a supervisor, not started."""
    found = clients.consumer(settings)
    found.subscribe([settings.source.topic])
    try:
        yield found
    finally:
        await found.stop()


async def when_ready(check: Joining, settings: Settings) -> None:
    """A new cluster creates the topic for its groups at the first query."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                return await check(settings)
            except UnreachableError:
                await asyncio.sleep(0.1)


async def check_of(settings: Settings) -> None:
    """Without joining."""
    await when_ready(groups.check_membership, settings)


async def member_of(settings: Settings) -> None:
    """The supervisor's member."""
    async with joined(settings):
        pass


async def worker_of(settings: Settings) -> None:
    async with consumer(settings) as found:
        await found.start()


WAYS: list[tuple[Joining, type[Exception]]] = [
    (check_of, ConfigError),
    (member_of, ConfigError),
    (worker_of, MemberRejectedError),
]


@pytest.mark.kafka
@pytest.mark.parametrize(("join", "error"), WAYS)
async def test_a_session_timeout_out_of_bounds_is_named_with_its_bounds(
    kafka: KafkaBroker, fresh_topic: FreshTopic, join: Joining, error: type[Exception]
) -> None:
    settings = settings_of(kafka, fresh_topic(), session_timeout_ms=2_000_000)
    with pytest.raises(error, match=SESSION_LINE):
        await join(settings)


@pytest.mark.kafka
async def test_members_with_another_assignor_are_named(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic()
    settings = settings_of(kafka, topic)
    other = AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka.bootstrap_servers,
        group_id=settings.kafka.group_id,
        client_id="billing",
        partition_assignment_strategy=[RangePartitionAssignor],
    )
    line = rf"^kafka.group_id: group 'group-of-{topic}' uses the assignor 'range' \(client billing at .*\), this scorer"
    async with clients.started(other, settings):
        for join, error in WAYS:
            with pytest.raises(error, match=line):
                await join(settings)


@pytest.mark.kafka
async def test_a_group_of_this_scorer_accepts_one_more(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    settings = settings_of(kafka, fresh_topic(partitions=2))
    await check_of(settings)
    async with joined(settings):
        await check_of(settings)


@pytest.mark.kafka
async def test_a_transaction_timeout_above_the_brokers_is_named_with_its_bound(
    kafka: KafkaBroker, fresh_topic: FreshTopic
) -> None:
    topic = fresh_topic()
    delivery = {"guarantee": "exactly_once", "transaction_timeout_ms": 900_001}
    settings = Settings.model_validate({**settings_of(kafka, topic).model_dump(), "delivery": delivery})
    with pytest.raises(
        ConfigError,
        match=r"^delivery.transaction_timeout_ms is 900001, the brokers accept at most 900000 \(transaction.max.",
    ):
        await when_ready(groups.check_group, settings)
    producer = clients.transactional_producer(settings, (topic, 0), 2**14)
    with pytest.raises(InvalidTransactionTimeout):
        await producer.start()
    await producer.stop()


def test_unknown_limits_reject_nothing_and_are_named() -> None:
    assert rejections.is_session_accepted(1, {})
    assert rejections.is_transaction_accepted(10**9, {})
    assert "is 3000, the brokers do not accept it (group.min" in rejections.session_timeout(3000, {})
    assert "the brokers do not accept it (transaction.max" in rejections.transaction_timeout(3000, {})
    line = "kafka.group_id: group 'g' uses another assignor, this scorer 'sticky'"
    assert rejections.other_members("g", "sticky", None) == line


def test_members_of_another_kind_are_named() -> None:
    connect = ("id", None, "worker-1", "/10.0.0.1", b"", b"not an assignment of consumers")

    class Reply:
        groups = ((0, "g", "Stable", "connect", "sessioned", [connect], 0),)

    line = rejections.other_members("g", "sticky", DescribedGroup.of(Reply()))
    assert "'sessioned' of the type connect (client worker-1 at 10.0.0.1)" in line


@asynccontextmanager
async def broker_that_advertises(port: int) -> AsyncIterator[Settings]:
    """Answers the first two requests of a client, and names a broker at this port; yields settings for it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        replies: dict[int, Any] = {
            API_VERSIONS: ApiVersionResponse_v0(0, [(API_VERSIONS, 0, 0), (METADATA, 0, 0)]),
            METADATA: MetadataResponse_v0([(1, "127.0.0.1", port)], []),
        }
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                key, _, correlation_id = struct.unpack(">hhi", (await reader.readexactly(size))[:8])
                body = struct.pack(">i", correlation_id) + replies[key].encode()
                writer.write(struct.pack(">i", len(body)) + body)
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield Settings.model_validate({"kafka": {"bootstrap_servers": address, "request_timeout_ms": 200}})
    finally:
        server.close()


Probe = Callable[[Settings], Awaitable[object]]
PROBES: list[Probe] = [
    topics.create_topics,
    lambda settings: topics.check_topics(settings, ["t"]),
    groups.check_group,
    groups.check_membership,
]


@pytest.mark.parametrize("probe", PROBES)
async def test_an_advertised_address_that_cannot_be_reached_is_named_with_the_first_one(probe: Probe) -> None:
    (port,) = free_ports(1)
    async with broker_that_advertises(port) as settings:
        with pytest.raises(UnreachableError) as caught:
            await probe(settings)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"kafka.bootstrap_servers: {settings.kafka.bootstrap_servers} answers, but not each address")
    assert f"advertised.listeners of the brokers): 127.0.0.1:{port}: " in line
