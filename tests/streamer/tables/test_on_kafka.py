"""Tables that follow a topic of a real broker."""

import asyncio
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from structlog.testing import capture_logs

from sandbox.broker.kafka import KafkaBroker
from streamer.ads import AdTable
from streamer.assembly import Assembly
from streamer.errors import ConfigError, TableLoadingError
from streamer.features import Encoder
from streamer.kafka.topics import check_ads, create_topics
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.tables.ad_tables import AdTables
from tests.kafka_fixtures import FreshTopic
from tests.streamer.specs import small_spec

pytestmark = pytest.mark.kafka

WAIT_S = 60.0
COMPACTED = {"cleanup.policy": "compact"}
# The second process of a machine: it writes until it is killed.
PROCESS = """
import asyncio, sys
from tests.streamer.tables.test_on_kafka import Topic, tables_of
async def main():
    async with tables_of(Topic(*sys.argv[1:4], sys.argv[4])) as (tables, metrics):
        await tables.opened()
        print("loaded", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@dataclass(frozen=True)
class Topic:
    """A topic of ads, the topic of its dead letters, and the folder of the machine's tables."""

    bootstrap: str
    name: str
    dead_letters: str
    folder: str

    @property
    def settings(self) -> Settings:
        return Settings.model_validate(
            {
                "kafka": {"bootstrap_servers": self.bootstrap, "request_timeout_ms": 3000},
                "ads": {"topic": self.name, "directory": self.folder, "max_bytes": 2**24},
                "sink": {"dead_letter_topic": self.dead_letters},
            }
        )

    def put(self, ads: Mapping[str, bytes | dict[str, Any] | None]) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap, "partitioner": "murmur2_random"})
        for ad_id, ad in ads.items():
            producer.produce(self.name, key=ad_id, value=orjson.dumps(ad) if isinstance(ad, dict) else ad)
        assert producer.flush(WAIT_S) == 0

    def create_again(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        admin.delete_topics([self.name])[self.name].result(WAIT_S)
        for _ in range(600):
            try:
                admin.create_topics([NewTopic(self.name, 2, 1, config=COMPACTED)])[self.name].result(WAIT_S)
            except KafkaException:  # the deletion is not complete
                time.sleep(0.1)
            else:
                return
        raise AssertionError("not created again")


@dataclass
class Opened:
    """The tables of a process, for one encoder."""

    tables: AdTables
    encoder: Encoder

    async def opened(self) -> AdTable:
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    return self.tables.open(self.encoder.row_form(), self.encoder.spec.hash)
                except TableLoadingError:
                    await asyncio.sleep(0.02)


@asynccontextmanager
async def tables_of(topic: Topic) -> AsyncIterator[tuple[Opened, Metrics]]:
    """A process with its tables."""
    metrics = Metrics()

    def spawn(_: Any, name: str) -> None:
        raise AssertionError(name)

    tables = Assembly(topic.settings, metrics, structlog.get_logger(), time.monotonic, spawn).ad_tables()
    assert tables is not None
    async with tables.running():
        yield Opened(tables, Encoder(small_spec())), metrics


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110  the brokers decide when
            await asyncio.sleep(0.02)


def known(table: AdTable, *ad_ids: str) -> list[bool]:
    found: list[bool] = table.lookup(ad_ids).known.tolist()
    return found


def floats(table: AdTable, ad_id: str) -> list[float]:
    found: list[float] = table.lookup([ad_id]).rows["floats"][0].tolist()
    return found


def ads(*names: str, bid: float = 1.0) -> dict[str, dict[str, Any]]:
    return {name: {"campaign": "c1", "bid": bid} for name in names}


@pytest.fixture
def topic(kafka: KafkaBroker, fresh_topic: FreshTopic, tmp_path: Path) -> Topic:
    name, dead = fresh_topic(partitions=2, config=COMPACTED, prefix="ads"), fresh_topic(prefix="dead")
    return Topic(kafka.bootstrap_servers, name, dead, str(tmp_path / "tables"))


async def test_ads_are_loaded_followed_deleted_and_rejected(topic: Topic) -> None:
    topic.put(ads("a", "b", "c"))
    async with tables_of(topic) as (tables, metrics):
        table = await tables.opened()
        assert known(table, "a", "b", "c", "d") == [True, True, True, False]
        before = floats(table, "a")
        topic.put({**ads("d"), **ads("a", bid=5.0), "b": None, "c": b"{nonsense"})
        await until(lambda: known(table, "a", "b", "c", "d") == [True, False, True, True])
        await until(lambda: floats(table, "a") != before)
        consumer = Consumer({"bootstrap.servers": topic.bootstrap, "group.id": "test", "enable.auto.commit": False})
        consumer.assign([TopicPartition(topic.dead_letters, 0, 0)])
        (letter,) = await asyncio.to_thread(consumer.consume, 1, WAIT_S)
        consumer.close()
        headers = dict(letter.headers())
        assert (letter.key(), letter.value()) == (b"c", b"{nonsense")
        assert headers["dead_letter.stage"] == b"table"
        assert headers["dead_letter.topic"] == topic.name.encode()
        assert b"not valid JSON" in headers["dead_letter.reason"]
        assert metrics.registry.get_sample_value("streamer_table_changes_total", {"outcome": "rejected"}) == 1


async def test_a_start_needs_the_topic_of_dead_letters(topic: Topic) -> None:
    with pytest.raises(ConfigError, match="no topic none-for-bad-ads; `streamer topics create` creates"):
        await check_ads(replace(topic, dead_letters="none-for-bad-ads").settings, structlog.get_logger())


@pytest.mark.slow
async def test_a_topic_that_is_empty_grows_and_is_created_again(topic: Topic) -> None:
    async with tables_of(topic) as (tables, metrics):
        table = await tables.opened()
        assert known(table, "a") == [False]
        admin = AdminClient({"bootstrap.servers": topic.bootstrap})
        admin.create_partitions([NewPartitions(topic.name, 4)])[topic.name].result(WAIT_S)
        names = [f"ad{n}" for n in range(100)]
        topic.put(ads(*names))
        await until(lambda: all(known(table, *names)))
        assert len(table.lookup(["a"]).position.offsets) == 4

        await asyncio.to_thread(topic.create_again)
        topic.put(ads(*names[:50]))
        await until(
            lambda: metrics.registry.get_sample_value("streamer_table_reloads_total", {"reason": "recreated"}) == 1
        )
        await asyncio.sleep(3.0)
        assert all(known(table, *names)), "half of the ads are missing, the former rows are read"
        topic.put(ads(*names[50:95]))
        await until(lambda: known(table, *names) == [True] * 95 + [False] * 5)
        assert len(table.lookup(["a"]).position.offsets) == 2


@pytest.mark.slow
async def test_a_writer_that_is_killed_is_succeeded_from_its_position(topic: Topic) -> None:
    topic.put(ads(*(f"ad{n}" for n in range(500))))
    arguments = (topic.bootstrap, topic.name, topic.dead_letters, topic.folder)
    writer = await asyncio.create_subprocess_exec(sys.executable, "-c", PROCESS, *arguments, stdout=PIPE)
    try:
        assert writer.stdout is not None
        async with asyncio.timeout(WAIT_S):
            while b"loaded" not in await writer.stdout.readline():
                pass
        async with tables_of(topic) as (tables, metrics):
            began = time.monotonic()
            table = await tables.opened()
            took_s = time.monotonic() - began
            assert known(table, "ad0", "ad499") == [True, True]
            topic.put(ads("by the other"))
            await until(lambda: known(table, "by the other") == [True])

            def stored() -> float | None:
                return metrics.registry.get_sample_value("streamer_table_changes_total", {"outcome": "stored"})

            assert stored() == 0, "it only reads"
            writer.send_signal(signal.SIGKILL)
            await writer.wait()
            topic.put(ads("by this one"))
            await until(lambda: known(table, "by this one", "ad0") == [True, True])
            assert stored() == 1, "it goes on at the position"
            assert took_s < WAIT_S
    finally:
        if writer.returncode is None:
            writer.kill()
            await writer.wait()


@pytest.mark.slow
async def test_a_broker_that_stops_and_starts_again_loses_nothing(tmp_path: Path) -> None:
    with KafkaBroker() as broker:
        topic = Topic(broker.bootstrap_servers, "ads", "dead-letters", str(tmp_path / "tables"))
        assert dict(await create_topics(topic.settings))["ads"] is True
        topic.put(ads("a"))  # the broker has the new topic when it takes a record
        with capture_logs() as logs:
            await check_ads(topic.settings, structlog.get_logger())
        assert logs == [], "`topics create` makes it compacted"
        async with tables_of(topic) as (tables, metrics):
            table = await tables.opened()

            def age_s() -> float:
                spec = {"spec": tables.encoder.spec.hash}
                return metrics.registry.get_sample_value("streamer_table_age_seconds", spec) or 0.0

            await asyncio.to_thread(broker.stop)
            await until(lambda: age_s() > 12)
            assert known(table, "a") == [True]
            await asyncio.to_thread(broker.start)
            topic.put(ads("b"))
            await until(lambda: known(table, "a", "b") == [True, True])
            await until(lambda: age_s() < 6)


@pytest.mark.slow
async def test_a_topic_that_is_not_compacted_works_with_a_warning(
    topic: Topic, fresh_topic: FreshTopic, tmp_path: Path
) -> None:
    plain = Topic(topic.bootstrap, fresh_topic(prefix="ads"), topic.dead_letters, str(tmp_path / "others"))
    plain.put(ads("a"))
    with capture_logs() as logs:
        await check_ads(plain.settings, structlog.get_logger())
    assert [(entry["log_level"], entry["remedy"]) for entry in logs] == [("warning", "set cleanup.policy=compact")]
    async with tables_of(plain) as (tables, _):
        table = await tables.opened()
        assert known(table, "a") == [True]
