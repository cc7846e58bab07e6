"""Static names in the group: the younger process of a name wins, and a name is free when its process stops."""

import asyncio
from collections.abc import Callable

import pytest
from confluent_kafka.admin import NewPartitions

from sandbox.broker.admin import admin_client
from sandbox.broker.kafka import KafkaBroker
from streamer.errors import ConfigError
from streamer.kafka import clients
from streamer.kafka.aiokafka_coordinator import MemberCoordinator
from tests.kafka_fixtures import FreshTopic
from tests.streamer.kafka.members import Member, joined, settings_of, until

pytestmark = pytest.mark.kafka


def add_partitions(kafka: KafkaBroker, topic: str, total: int) -> None:
    """Adds partitions to a topic, and waits for them."""
    admin = admin_client(kafka.internal_servers)
    admin.create_partitions([NewPartitions(topic, total)])[topic].result(60)


def coordinator_watches(coordinator: MemberCoordinator) -> Callable[[], bool]:
    return lambda: coordinator._group_subscription is not None  # noqa: SLF001


async def test_the_younger_process_of_a_name_keeps_the_partitions(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    """aiokafka's own coordinator takes the name back, and so does the other one, endlessly."""
    topic = fresh_topic(partitions=4)
    named, other = settings_of(kafka, topic, "a"), settings_of(kafka, topic, "a-1")
    async with joined(named, other) as (old, neighbour):
        await until(lambda: len(old.has) == len(neighbour.has) == 2)
        before = list(neighbour.events)
        async with joined(named) as (young,):
            assert young.has == old.has
            error = await old.error()
            assert isinstance(error, ConfigError)
            assert "kafka.group_instance_id" in str(error)
            assert "'a'" in str(error)
            with pytest.raises(ConfigError):
                await old.client.watch()  # also later
            await old.leave()
            assert await young.attempt_commit((topic, min(young.has)), 1) == "committed"
            assert neighbour.events == before, "no rebalance"
            await neighbour.leave()
            await until(lambda: len(young.has) == 4)
            assert young.watching is not None
            assert not young.watching.done()


async def test_a_replaced_member_that_learns_it_by_joining_ends_too(
    kafka: KafkaBroker, fresh_topic: FreshTopic
) -> None:
    """The broker answers FENCED_INSTANCE_ID, which aiokafka does not know."""
    topic = fresh_topic(partitions=2)
    slow = settings_of(kafka, topic, "a", heartbeat_interval_ms=20_000)
    async with joined(slow) as (old,), joined(slow) as (young,):
        old.coordinator.request_rejoin()
        assert isinstance(await old.error(), ConfigError)
        assert young.events == ["assigned [0, 1]"]


@pytest.mark.slow
async def test_a_static_member_whose_session_has_expired_rejoins(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    """A machine that was paused. The member ids of dynamic clients can begin with the same name."""
    topic = fresh_topic(partitions=4)
    named = settings_of(kafka, topic, "a", session_timeout_ms=6000)
    async with (
        joined(named) as (paused,),
        joined(settings_of(kafka, topic, "a-1"), settings_of(kafka, topic, None, client_id="a")) as others,
    ):
        first, second = others
        await until(lambda: len(first.has) + len(second.has) + len(paused.has) == 4)
        coordinator = paused.coordinator
        await coordinator._stop_heartbeat_task()  # noqa: SLF001
        await until(lambda: len(first.has) + len(second.has) == 4)
        coordinator._start_heartbeat_task()  # noqa: SLF001
        await until(lambda: len(first.has) + len(second.has) < 4)
        await until(lambda: len(first.has | second.has | paused.has) == 4)
        assert paused.events[-2] == "revoke"
        assert paused.watching is not None
        assert not paused.watching.done()


async def test_a_static_member_that_stops_leaves_at_once(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic(partitions=4)
    async with joined(settings_of(kafka, topic, "a"), settings_of(kafka, topic, "b")) as (first, second):
        await until(lambda: len(first.has) == len(second.has) == 2)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await first.leave()
        await until(lambda: len(second.has) == 4)
        assert loop.time() - began < 20.0, "a third of the session timeout"


async def test_a_member_that_stops_during_a_rebalance_does_not_wait_for_it(
    kafka: KafkaBroker, fresh_topic: FreshTopic
) -> None:
    """Otherwise the process may end first, and the group would give its partitions to nobody."""
    topic = fresh_topic(partitions=4)
    release = asyncio.Event()
    async with joined(settings_of(kafka, topic)) as (drains,):
        drains.in_revoke = release.wait
        new = Member(settings_of(kafka, topic))
        joining = asyncio.create_task(new.join())
        try:
            await until(lambda: "revoke" in drains.events)
            async with asyncio.timeout(20.0):
                await new.leave()
        finally:
            joining.cancel()
            release.set()
        await until(lambda: drains.events[-1] == "assigned [0, 1, 2, 3]")


async def test_partitions_added_while_the_leader_restarts_are_assigned(
    kafka: KafkaBroker, fresh_topic: FreshTopic
) -> None:
    """The broker tells the restarted leader that its old member id leads, so it does not assign by itself."""
    topic = fresh_topic(partitions=2)
    async with joined(settings_of(kafka, topic, "leader")) as (old,):
        add_partitions(kafka, topic, 5)
        async with joined(settings_of(kafka, topic, "leader")) as (young,):
            assert young.events[0] == "assigned [0, 1]"
            assert isinstance(await old.error(), ConfigError)
            await until(lambda: len(young.has) == 5)
            assert young.events == ["assigned [0, 1]", "revoke", "assigned [0, 1, 2, 3, 4]"]


async def test_all_members_notice_added_partitions_after_a_restart_of_the_leader(
    kafka: KafkaBroker, fresh_topic: FreshTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_METADATA_MAX_AGE_MS", 200)
    topic = fresh_topic(partitions=2)
    leader = settings_of(kafka, topic, "leader")
    async with joined(leader, settings_of(kafka, topic, "follower")) as (old, follower):
        await until(lambda: len(old.has) == len(follower.has) == 1)
        async with joined(leader) as (young,):
            assert isinstance(await old.error(), ConfigError)
            await old.leave()
            add_partitions(kafka, topic, 6)
            await until(lambda: len(young.has) == len(follower.has) == 3)
            assert young.has | follower.has == set(range(6))


async def test_missing_metadata_cause_no_rejoin(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    """A broker that starts can answer without a topic. aiokafka's coordinator rejoins then, and again afterwards."""
    topic = fresh_topic(partitions=3)
    async with joined(settings_of(kafka, topic, "leader"), settings_of(kafka, topic, "follower")) as members:
        await until(lambda: sum(len(member.has) for member in members) == 3)
        for member in reversed(members):  # a rejoin of the follower changes nothing
            coordinator = member.coordinator
            await until(coordinator_watches(coordinator))
            cluster = coordinator._cluster  # noqa: SLF001
            known = cluster._partitions  # noqa: SLF001
            for seen in ({}, {topic: {0: known[topic][0]}}, known):
                cluster._partitions = seen  # noqa: SLF001
                coordinator._handle_metadata_update(cluster)  # noqa: SLF001
                assert not coordinator._rejoin_needed_fut.done()  # noqa: SLF001
            added = {**known[topic], 3: known[topic][0]}
            cluster._partitions = {topic: added}  # noqa: SLF001
            coordinator._handle_metadata_update(cluster)  # noqa: SLF001
            assert coordinator._rejoin_needed_fut.done()  # noqa: SLF001


async def test_partitions_that_were_unknown_at_an_assignment_are_assigned_soon(
    kafka: KafkaBroker, fresh_topic: FreshTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = fresh_topic(partitions=3)
    async with joined(settings_of(kafka, topic)) as (member,):
        coordinator, forgets = member.coordinator, [True]

        async def before_the_assignment() -> None:
            if forgets:
                coordinator._cluster._partitions = {}  # noqa: SLF001
                forgets.clear()

        monkeypatch.setattr(coordinator._client, "_maybe_wait_metadata", before_the_assignment)  # noqa: SLF001
        coordinator.request_rejoin()
        async with asyncio.timeout(20.0):  # the next update of metadata is after 30 s
            await until(lambda: len(member.events) == 4)
        assert member.events[1:] == ["revoke", "assigned []", "assigned [0, 1, 2]"]


async def test_a_failed_check_of_a_name_is_repeated(
    kafka: KafkaBroker, fresh_topic: FreshTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = fresh_topic(partitions=1)
    named = settings_of(kafka, topic, "a")
    async with joined(named) as (old,):
        coordinator = old.coordinator
        asked = coordinator._described_group  # noqa: SLF001
        fails = 2

        async def described() -> object:
            nonlocal fails
            fails -= 1
            return None if fails >= 0 else await asked()

        monkeypatch.setattr(coordinator, "_described_group", described)
        async with joined(named) as (young,):
            assert isinstance(await old.error(), ConfigError)
            assert fails < 0
            assert young.events == ["assigned [0]"]
