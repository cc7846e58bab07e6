"""Apache Kafka for tests. Without Java or Maven these fixtures fail; they never skip."""

import itertools
import os
from collections.abc import Callable, Iterator, Mapping

import pytest

from sandbox.broker.broker import open_broker
from sandbox.broker.kafka import KafkaBroker

FreshTopic = Callable[..., str]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaBroker]:
    """One running broker for all tests of the session; tests that stop a broker start their own."""
    broker = open_broker(require_kafka=True)
    assert isinstance(broker, KafkaBroker)
    with broker:
        yield broker


@pytest.fixture
def fresh_topic(kafka: KafkaBroker) -> FreshTopic:
    """`fresh_topic(partitions=1, config=None, prefix="topic")` creates a topic.

    It returns the topic's name.
    """

    def create(partitions: int = 1, config: Mapping[str, str] | None = None, prefix: str = "topic") -> str:
        name = f"{prefix}-{os.getpid()}-{next(_numbers)}"
        kafka.create_topic(name, partitions, config)
        return name

    return create
