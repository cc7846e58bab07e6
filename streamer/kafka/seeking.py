"""Sets a consumer's positions back to records that were read and not received."""

from collections.abc import Sequence
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition


def seek_back(consumer: Any, records: Sequence[ConsumerRecord]) -> None:
    """Makes these records be read again, unless their partition is lost."""
    assigned = consumer.assignment()
    for record in reversed(records):
        top = TopicPartition(record.topic, record.partition)
        if top in assigned:
            consumer.seek(top, record.offset)
