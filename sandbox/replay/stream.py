"""Streams records through the scorer; follows each by its key to its answer or dead letter."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from sandbox.broker.topics import Topics
from sandbox.errors import SandboxError
from sandbox.traffic.dead_letters import reason_of

_POLL_S = 0.2
_FLUSH_S = 60.0
_METADATA_S = 30.0
_REPORT_S = 5.0


class StreamError(SandboxError):
    """The broker did not accept a record, or a topic cannot be read."""


@dataclass(slots=True)
class Outcome:
    """Answers and dead letters by the key of the record.

    Attributes:
        answers: the answers to each record, in order of receipt.
        dead_letters: the reasons of its dead letters.
    """

    answers: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    dead_letters: dict[str, list[str]] = field(default_factory=dict)

    @property
    def settled(self) -> int:
        """Number of records with an answer or a dead letter."""
        return len(self.answers.keys() | self.dead_letters.keys())

    def unsettled(self, keys: Mapping[str, object]) -> list[str]:
        """The `keys` of records without exactly one answer or one dead letter."""
        return [k for k in keys if len(self.answers.get(k, ())) + len(self.dead_letters.get(k, ())) != 1]


def stream(
    bootstrap: str,
    topics: Topics,
    records: Mapping[str, bytes],
    *,
    timeout_s: float = 600.0,
    progress: Callable[[int], None] | None = None,
) -> Outcome:
    """Sends all records, and reads until each has an answer or a dead letter.

    The output topics are read from their beginning. The outcome does not have records without an answer after
    `timeout_s`.

    Raises:
        StreamError: the broker did not accept a record, or a topic cannot be read.
    """
    _send(bootstrap, topics.requests, records)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "replay",  # librdkafka requires one; no group is joined
            "enable.auto.commit": False,
            "log_level": 2,
        }
    )
    outcome = Outcome()
    try:
        consumer.assign(
            [
                TopicPartition(topic, partition, OFFSET_BEGINNING)
                for topic in (topics.scores, topics.dead_letters)
                for partition in consumer.list_topics(topic, timeout=_METADATA_S).topics[topic].partitions
            ]
        )
        now = time.monotonic()
        deadline, report_at = now + timeout_s, now + _REPORT_S
        while outcome.settled < len(records) and now < deadline:
            for message in consumer.consume(500, timeout=_POLL_S):
                _receive(message, topics, outcome)
            now = time.monotonic()
            if progress is not None and now >= report_at:
                progress(outcome.settled)
                report_at = now + _REPORT_S
        # One more read: a duplicate answer arrives shortly after the first.
        for message in consumer.consume(500, timeout=1.0):
            _receive(message, topics, outcome)
    except KafkaException as error:
        raise StreamError(f"reading {topics.scores}: {error.args[0]}") from error
    finally:
        consumer.close()
    return outcome


def _send(bootstrap: str, topic: str, records: Mapping[str, bytes]) -> None:
    failures: list[str] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error.str())

    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "message.max.bytes": 8 << 20, "log_level": 2})
    for key, value in records.items():
        while True:
            try:
                producer.produce(topic, value, key, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(_POLL_S)
    left = producer.flush(_FLUSH_S)
    if left or failures:
        raise StreamError(f"{left + len(failures)} records were not accepted: {failures[:1] or 'no acknowledgement'}")


def _receive(message: Message, topics: Topics, outcome: Outcome) -> None:
    error = message.error()
    if error is not None:
        if error.fatal():
            raise KafkaException(error)
        return  # librdkafka retries the others
    key = (message.key() or b"").decode()
    if message.topic() == topics.scores:
        outcome.answers.setdefault(key, []).append(orjson.loads(message.value() or b""))
    else:
        outcome.dead_letters.setdefault(key, []).append(reason_of(message))
