"""Partitions that a real broker cannot give: without a leader, or with damage on the disk."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic
from structlog.testing import capture_logs

from sandbox.broker.admin import admin_client
from sandbox.broker.cluster import KafkaCluster
from sandbox.broker.kafka import KafkaBroker
from streamer.assembly import Assembly
from streamer.kafka import clients, groups
from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.source import Source
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.tasks import TaskOwner

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

WAIT_S = 120.0
SESSION_S = 6.0
TOPIC = "requests"
# A node that counts as dead soon, so that its partitions have no leader.
_IMPATIENT = {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}


class Worker:
    """A member of the group that answers nothing but acknowledges each record."""

    def __init__(self, bootstrap: str, tasks: TaskOwner) -> None:
        self.settings = Settings.model_validate(
            {
                "kafka": {
                    "bootstrap_servers": bootstrap,
                    "session_timeout_ms": 1e3 * SESSION_S,
                    "request_timeout_ms": 30_000,
                },
                "source": {"topic": TOPIC, "deadline_from": "arrival"},
            }
        )
        self.metrics = Metrics()
        self.tasks = tasks
        clock = asyncio.get_running_loop().time
        assembly = Assembly(self.settings, self.metrics, structlog.get_logger(), clock, tasks.spawn)
        commits_of = partial(groups.commits_of, self.settings)
        self.consumer = clients.consumer(self.settings)
        self.source: Source = assembly.source(self.consumer, OffsetTracker(), commits_of)
        self.read: list[tuple[int, int]] = []
        self.dead: list[tuple[int, int]] = []

    async def start(self) -> None:
        await self.source.start()
        self.tasks.spawn(self._read(), "read")
        self.tasks.spawn(self._commit(), "commit")

    async def until_read(self, *wanted: tuple[int, int]) -> float:
        """Waits for these partitions and offsets; returns the seconds."""
        began = time.monotonic()
        async with asyncio.timeout(WAIT_S):
            while not set(wanted) <= set(self.read):  # noqa: ASYNC110  the brokers decide
                await asyncio.sleep(0.02)
        return time.monotonic() - began

    @property
    def unreadable(self) -> set[str]:
        (family,) = (f for f in self.metrics.registry.collect() if f.name == "streamer_source_unreadable_partitions")
        return {sample.labels["partition"] for sample in family.samples}

    async def _read(self) -> None:
        async for chunk in self.source.chunks():
            for record in chunk:
                at = record.origin.partition, record.origin.offset
                (self.read if record.unreadable is None else self.dead).append(at)
                self.source.answered()
                self.source.acknowledged(record.origin)

    async def _commit(self) -> None:
        while True:
            await self.source.commit_when_due()


@asynccontextmanager
async def working(bootstrap: str) -> AsyncIterator[Worker]:
    async with TaskOwner().running() as tasks:
        worker = Worker(bootstrap, tasks)
        await worker.start()
        try:
            yield worker
            await worker.source.leave()
        finally:
            tasks.cancel()
            await worker.source.stop()


def produce(bootstrap: str, *partitions: int, value: bytes = b"request", linger_ms: int = 0) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": linger_ms})
    for partition in partitions:
        producer.produce(TOPIC, value, partition=partition)
    assert producer.flush(60) == 0


def kill(node: KafkaBroker, bootstrap: str) -> None:
    """Kills the only node with a copy of partition 2; returns when the other nodes know."""
    node.kill()
    admin = admin_client(bootstrap)
    while admin.list_topics(TOPIC, timeout=30).topics[TOPIC].partitions[2].leader >= 0:
        time.sleep(0.2)


def damage(folder: Path) -> None:
    """Changes one byte of a batch of partition 1 on the disk of a broker that does not run."""
    (log,) = folder.rglob(f"{TOPIC}-1/00000000000000000000.log")
    content = log.read_bytes()
    assert content.count(b"damaged") == 2
    log.write_bytes(content.replace(b"damaged", b"DAMAGED", 1))


async def test_partitions_without_a_leader_delay_no_other_one(tmp_path: Path) -> None:
    with KafkaCluster(tmp_path, config=_IMPATIENT) as cluster:
        copies = NewTopic(TOPIC, num_partitions=3, replica_assignment=[[1], [2], [3]])
        admin = admin_client(cluster.internal_servers)
        admin.create_topics([copies])[TOPIC].result(60)
        bootstrap = ",".join(node.bootstrap_servers for node in cluster.nodes[:2])
        produce(cluster.bootstrap_servers, 0, 1, 2)
        kill(cluster.nodes[2], bootstrap)
        with capture_logs() as lines:
            async with working(bootstrap) as worker:
                assert await worker.until_read((0, 0), (1, 0)) < SESSION_S
                assert worker.unreadable == {"2"}
                await asyncio.sleep(2 * SESSION_S)
                produce(bootstrap, 0, 1)
                assert await worker.until_read((0, 1), (1, 1)) < 2.0, "it is still a member, and reads"
                assert {line["event"] for line in lines if "assign" in line["event"]} == set()
                await asyncio.to_thread(cluster.nodes[2].start)
                await worker.until_read((2, 0))
                assert worker.unreadable == set()
                await asyncio.to_thread(kill, cluster.nodes[2], bootstrap)
                produce(bootstrap, 0, 1)
                assert await worker.until_read((0, 2), (1, 2)) < 2.0, "a leader that is lost later changes nothing"
    failed = [line["errors"] for line in lines if line["event"] == "partitions cannot be opened, retried"]
    assert failed
    assert all(list(errors) == ["requests/2"] for errors in failed)


async def test_an_operator_can_pass_over_a_damage(tmp_path: Path) -> None:
    broker = KafkaBroker(tmp_path)
    with broker:
        broker.create_topic(TOPIC, 2)
        bootstrap = broker.bootstrap_servers
        for _ in range(3):
            produce(bootstrap, 0, 1)
        produce(bootstrap, 1, 1, value=b"damaged", linger_ms=200)
        produce(bootstrap, 0, 1)
        broker.stop()
        damage(tmp_path)
        broker.start()
        with capture_logs() as lines:
            async with working(bootstrap) as worker:
                await worker.until_read(*((0, n) for n in range(4)), *((1, n) for n in range(3)))
                produce(bootstrap, 0)
                assert await worker.until_read((0, 4)) < 2.0
                async with asyncio.timeout(WAIT_S):
                    while worker.unreadable != {"1"}:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
        line = next(line for line in lines if line["event"] == "partition cannot be read, retried")
        assert (line["topic"], line["partition"], line["offset"]) == (TOPIC, 1, 3)
        assert "CRC" in line["error"]
        assert line["error"].endswith("offsets 3 to 4")
        # As `kafka-consumer-groups.sh --reset-offsets --to-offset 5 --execute`, while the group has no members.
        settings = worker.settings
        operator = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, group_id=settings.kafka.group_id, enable_auto_commit=False
        )
        await operator.start()
        operator.assign([TopicPartition(TOPIC, 1)])
        await operator.commit({TopicPartition(TOPIC, 1): 5})
        await operator.stop()
        async with working(bootstrap) as worker:
            await worker.until_read((1, 5))
            assert worker.read == [(1, 5)]
            assert worker.unreadable == set()
