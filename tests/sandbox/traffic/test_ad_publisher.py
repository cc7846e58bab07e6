"""The topic of ads has what its producer's history says."""

import time
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from sandbox.broker.kafka import KafkaBroker
from sandbox.traffic.ad_history import AdHistory
from sandbox.traffic.ad_publisher import AdPublisher, AdsError
from sandbox.world.ad_changes import AdChanges
from tests.kafka_fixtures import FreshTopic
from tests.sandbox.world.small import small_world

PARTITIONS = 2

pytestmark = pytest.mark.kafka


def test_the_history_is_the_topic(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic(PARTITIONS, {"cleanup.policy": "compact"}, prefix="ads")
    history = AdHistory(topic, PARTITIONS)
    ads = AdPublisher(kafka.bootstrap_servers, topic, AdChanges(small_world()), rate=2_000.0, history=history)
    assert ads.publish_catalogue() == 594
    with ads:
        while sum(history.kinds.values()) < 594 + 100:
            time.sleep(0.01)
    ends, written = history.ends, sum(history.kinds.values())
    assert sum(ends) == written
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "test", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    try:
        records: list[Any] = consumer.consume(written, timeout=60)
    finally:
        consumer.close()
    assert len(records) == written
    for record in records:
        ad, positions = small_world().ads.ids.index(record.key().decode()), list(ends)
        positions[record.partition()] = record.offset() + 1
        assert history.at(ad, positions) == record.value()


def test_a_record_that_is_not_stored_is_an_error(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    small = fresh_topic(config={"max.message.bytes": "10"}, prefix="ads")
    ads = AdPublisher(kafka.bootstrap_servers, small, AdChanges(small_world()))
    with pytest.raises(AdsError, match=f"topic {small}: .*size"):
        ads.publish_catalogue()
