"""Reads the topic of ads into memory, for a program that keeps them in a dict."""

import argparse

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

PARTITIONS = 4
"""Of the topic."""


async def ads_of(arguments: argparse.Namespace) -> dict[str, dict[str, object]] | None:
    """The ads in the topic `arguments.ads` by id, as it is now; None without such a topic."""
    if arguments.ads is None:
        return None
    consumer = AIOKafkaConsumer(bootstrap_servers=arguments.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        tops = [TopicPartition(arguments.ads, number) for number in range(PARTITIONS)]
        consumer.assign(tops)
        ends = await consumer.end_offsets(tops)
        found: dict[str, dict[str, object]] = {}
        while any([await consumer.position(top) < ends[top] for top in tops]):
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found |= {record.key.decode(): orjson.loads(record.value) for record in records}
        return found
    finally:
        await consumer.stop()
