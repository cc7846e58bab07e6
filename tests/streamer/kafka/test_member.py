"""A member of the group that reads nothing, on a real broker."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import consumer as aiokafka_consumer
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError, RebalanceInProgressError
from aiokafka.protocol.group import JoinGroupRequest, LeaveGroupRequest

from sandbox.broker.kafka import KafkaBroker
from streamer.kafka import clients, groups
from streamer.settings import Settings
from tests.kafka_fixtures import FreshTopic
from tests.streamer.kafka.members import Member, joined, settings_of, until

pytestmark = pytest.mark.kafka


async def test_a_member_commits_while_its_partitions_are_revoked(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic(partitions=4)
    settings = settings_of(kafka, topic)
    async with joined(settings) as (first,):
        assert first.events == ["assigned [0, 1, 2, 3]"]
        assert await first.attempt_commit((topic, 0), 5) == "committed"

        async def drain() -> None:
            first.events.append(await first.attempt_commit((topic, 1), 7))

        first.in_revoke = drain
        async with joined(settings) as (second,):
            await until(lambda: len(first.has) == len(second.has) == 2)
            assert first.events[1:3] == ["revoke", "committed"]
            (lost,) = [number for number in range(4) if number not in first.has][:1]
            assert await first.attempt_commit((topic, lost), 9) == "CommitFailedError"
        await until(lambda: len(first.has) == 4)
        assert await groups.commits_of(settings, [(topic, number) for number in range(4)]) == {
            (topic, 0): (5, "of a test"),
            (topic, 1): (7, "of a test"),
        }


async def test_a_member_fetches_nothing(
    kafka: KafkaBroker, fresh_topic: FreshTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = fresh_topic(partitions=2)
    settings = settings_of(kafka, topic)
    async with clients.started(clients.producer(settings), settings) as producer:
        for number in range(2):
            await producer.send_and_wait(topic, b"r", partition=number)
    sent: list[str] = []
    send = AIOKafkaClient.send

    async def recorded(self: AIOKafkaClient, node: int, request: object, **options: object) -> object:
        sent.append(type(request).__name__)
        return await send(self, node, request, **options)

    monkeypatch.setattr(AIOKafkaClient, "send", recorded)
    async with joined(settings) as (member,):
        await until(lambda: sent.count("HeartbeatRequest") > 5)
        assert await member.client._consumer.getmany(timeout_ms=0) == {}  # noqa: SLF001
    assert sent.count("FetchRequest") + sent.count("OffsetFetchRequest") == 0


async def test_a_commit_after_the_loss_of_the_membership_fails(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    """The group is empty now, and a broker accepts the commit of a client that is no member."""
    topic = fresh_topic(partitions=1)
    settings = settings_of(kafka, topic)
    async with joined(settings) as (member,):

        async def drain() -> None:
            member.events.append(await member.attempt_commit((topic, 0), 5))

        member.in_revoke = drain
        coordinator = member.coordinator
        # As if its session had expired.
        await coordinator._send_req(LeaveGroupRequest(coordinator.group_id, coordinator.member_id))  # noqa: SLF001
        await until(lambda: len(member.events) == 4)
        assert member.events == ["assigned [0]", "revoke", "CommitFailedError", "assigned [0]"]
        assert await groups.commits_of(settings, [(topic, 0)]) == {}
        assert await member.attempt_commit((topic, 0), 6) == "committed"


async def test_a_commit_does_not_disturb_a_join(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    """The broker would answer ILLEGAL_GENERATION, upon which aiokafka drops the membership that it has just got."""
    topic = fresh_topic(partitions=3)
    settings = settings_of(kafka, topic)
    async with joined(settings, settings) as (first, drains):
        await until(lambda: len(first.has) + len(drains.has) == 3)
        release = asyncio.Event()
        drains.in_revoke = release.wait
        committing: asyncio.Task[str] | None = None
        new = Member(settings)
        joining = asyncio.create_task(new.join())
        try:
            await until(lambda: first.coordinator._is_joining)  # noqa: SLF001
            committing = asyncio.create_task(first.attempt_commit((topic, min(first.has)), 5))
            await asyncio.sleep(0)
        finally:
            release.set()
            await joining
        try:
            await until(lambda: len(first.has) == len(drains.has) == len(new.has) == 1)
            assert await committing == "CommitFailedError"
            assert not first.coordinator._rejoin_needed_fut.done()  # noqa: SLF001
            assert first.events.count("revoke") == 2
        finally:
            await new.leave()


async def test_a_join_that_the_broker_could_not_store_is_repeated(
    kafka: KafkaBroker, fresh_topic: FreshTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker answers REBALANCE_IN_PROGRESS; as an unexpected error it would end the process."""
    topic = fresh_topic(partitions=1)
    async with joined(settings_of(kafka, topic)) as (member,):
        send, joins = member.coordinator._client.send, list[str]()  # noqa: SLF001

        async def answered(node: int, request: object, **options: object) -> Any:
            response = await send(node, request, **options)
            if isinstance(request, JoinGroupRequest):
                joins.append("JoinGroup")
                if len(joins) == 1:
                    response.error_code = RebalanceInProgressError.errno
            return response

        monkeypatch.setattr(member.coordinator._client, "send", answered)  # noqa: SLF001
        member.coordinator.request_rejoin()
        await until(lambda: member.events[1:] == ["revoke", "assigned [0]"])
        assert len(joins) == 2
        assert member.watching is not None
        assert not member.watching.done()


async def test_the_death_of_a_task_of_aiokafka_ends_the_watch(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic()
    async with joined(settings_of(kafka, topic)) as (member,):
        coordinator = member.coordinator

        async def fail() -> None:
            raise KafkaError("Unexpected error during coordination")

        coordinator._coordination_task.cancel()  # noqa: SLF001
        with suppress(asyncio.CancelledError):
            await coordinator._coordination_task  # noqa: SLF001
        coordinator._coordination_task = asyncio.create_task(fail())  # noqa: SLF001
        assert type(await member.error()) is KafkaError


async def test_without_brokers_a_join_can_be_repeated(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    settings = Settings.model_validate({"kafka": {"bootstrap_servers": "127.0.0.1:1"}})
    member = Member(settings)
    for _ in range(2):
        with pytest.raises(clients.UNAVAILABLE):
            await member.join()
    await member.leave()
    await Member(settings).client.leave()  # it has never tried to join


@pytest.mark.slow
async def test_a_member_shares_the_group_with_a_worker_of_version_0_1(
    kafka: KafkaBroker, fresh_topic: FreshTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = fresh_topic(partitions=4)
    settings = settings_of(kafka, topic)
    worker = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers,
        group_id=settings.kafka.group_id,
        enable_auto_commit=False,
        session_timeout_ms=10_000,
        heartbeat_interval_ms=3333,
        rebalance_timeout_ms=20_000,
        max_poll_interval_ms=2**31 - 1,
        partition_assignment_strategy=[StickyPartitionAssignor],
    )
    worker.subscribe([topic])
    with monkeypatch.context() as original:
        original.setattr(aiokafka_consumer, "GroupCoordinator", GroupCoordinator)
        await worker.start()
    try:
        assert type(worker._coordinator) is GroupCoordinator  # noqa: SLF001
        async with joined(settings) as (member,):
            await until(lambda: len(member.has) == len(worker.assignment()) == 2)
            number = min(member.has)
            assert TopicPartition(topic, number) not in worker.assignment()
            assert await member.attempt_commit((topic, number), 3) == "committed"
        await until(lambda: len(worker.assignment()) == 4)
    finally:
        await worker.stop()


async def test_no_tool_commits_for_a_group_at_work(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    """So an operator's reset never moves the position of a running worker."""
    topic = fresh_topic()
    settings = settings_of(kafka, topic)
    top = TopicPartition(topic, 0)
    async with joined(settings):
        tool = AIOKafkaConsumer(**clients.client_options(settings), group_id=settings.kafka.group_id)
        await tool.start()
        try:
            tool.assign([top])
            with pytest.raises(KafkaError):
                await tool.commit({top: (3, "")})
        finally:
            await tool.stop()
        assert await groups.commits_of(settings, [top]) == {}
