"""What Kafka's own compaction leaves of a topic of ads, and the features that follow from it."""

import asyncio
import json
import time

import numpy as np
import pytest
from confluent_kafka import Producer

from sandbox.broker.kafka import KafkaBroker
from streamer.ads import AdRecord
from streamer.commands.ads_topic import ad_records, form_without_spec
from streamer.commands.topic_ads import AdsAt, AdState
from streamer.settings import Settings
from tests.kafka_fixtures import FreshTopic

ADS = [f"a{i}" for i in range(8)]
CONFIG = {
    "cleanup.policy": "compact",
    "segment.ms": "200",
    "min.cleanable.dirty.ratio": "0.01",
    "max.compaction.lag.ms": "200",
    "delete.retention.ms": "0",
}
COMPACTION_S = 300.0


@pytest.mark.kafka
@pytest.mark.slow
def test_features_at_each_position_are_right_or_not_known(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic(2, CONFIG, prefix="ads")
    settings = Settings(kafka={"bootstrap_servers": kafka.bootstrap_servers}, ads={"topic": topic})
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2_random"})
    rng = np.random.default_rng(3)

    def produce(count: int) -> None:
        for i in range(count):
            value = None if rng.random() < 0.2 else json.dumps({"bid": i})
            producer.produce(topic, key=ADS[rng.integers(len(ADS))], value=value)
        assert producer.flush(300) == 0

    async def read() -> list[AdRecord]:
        return [record async for record in ad_records(settings)]

    for _ in range(4):
        produce(40)
        time.sleep(0.3)  # the next record begins a segment; only closed ones are compacted
    written = asyncio.run(read())
    assert len(written) == 160
    deadline, left = time.monotonic() + COMPACTION_S, written
    while len(left) > 80 and time.monotonic() < deadline:
        time.sleep(1.0)
        left = asyncio.run(read())
    assert len(left) <= 80, "compaction has run"
    ends = [max(r.offset for r in written if r.partition == partition) + 1 for partition in range(2)]
    known = 0
    for share in np.linspace(0, 1, 60):
        offsets = [round(share * end) for end in ends]
        for ad_id in ADS:
            state, truth = at(left, ad_id, offsets), at(written, ad_id, offsets)
            assert truth.why_unknown is None
            if state.why_unknown is None:
                known += 1
                assert state.document == truth.document
    assert known >= len(ADS)


def at(records: list[AdRecord], ad_id: str, offsets: list[int]) -> AdState:
    ads = AdsAt([ad_id], form_without_spec().document, offsets)
    for record in records:
        ads.add(record)
    return ads.state(ad_id)
