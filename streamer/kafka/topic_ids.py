"""Metadata v10: the id of a topic. A topic that is created again has another one.

aiokafka 0.14 has v0 to v5, which contain no ids. Brokers have v10 since Kafka 2.8.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from zlib import crc32

from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

from streamer.kafka.any_broker import ask_any

_TEXT = CompactString("utf-8")
_ID = ("topic_id_high", Int64), ("topic_id_low", Int64)
_TAGS = ("tags", TaggedFields)


class _Response(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), _TAGS)),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _TEXT),
                *_ID,
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        _TAGS,
                    ),
                ),
                ("authorized_operations", Int32),
                _TAGS,
            ),
        ),
        ("cluster_authorized_operations", Int32),
        _TAGS,
    )


class _RequestV10(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _Response
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        ("topics", CompactArray(*_ID, ("name", _TEXT), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _TAGS,
    )


class _DescribeTopic(Request[_RequestV10]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, version: type[_RequestV10]) -> _RequestV10:
        return version([(0, 0, self._topic, {})], False, False, False, {})


class TopicNow(NamedTuple):
    """A topic as the brokers describe it now.

    Attributes:
        id: 32 hexadecimal digits; empty if the brokers are older than topic ids.
        partitions: their numbers, with whether a broker leads each.
    """

    id: str
    partitions: Mapping[int, bool]


async def topic_now(consumer: Any, topic: str, try_s: float) -> TopicNow:
    """Id, partitions and leaders of a topic.

    `try_s`: the time for each broker's answer, in seconds.

    Raises:
        KafkaError: no broker answers, or the topic does not exist now.
    """
    client = consumer._client  # noqa: SLF001  aiokafka has no method for this
    try:
        _, _, high, low, _, partitions, *_ = await _described(client, topic, try_s)
    except NotImplementedError:
        # Brokers before Kafka 2.8: what the client knows, at most `metadata_max_age_ms` old.
        return TopicNow("", dict.fromkeys(await client._wait_on_metadata(topic), True))  # noqa: SLF001
    known = high or low
    leads = {number: leader >= 0 for _, number, leader, *_ in partitions}
    return TopicNow(f"{high % 2**64:016x}{low % 2**64:016x}" if known else "", leads)


async def topic_fingerprint(consumer: Any, topic: str, try_s: float) -> int:
    """32 bits of a topic's id; 0 if the brokers are older than topic ids.

    `try_s`: the time for each broker's answer, in seconds.

    Raises:
        KafkaError: no broker answers, or the topic does not exist now.
    """
    client = consumer._client  # noqa: SLF001  aiokafka has no method for this
    try:
        _, _, high, low, *_ = await _described(client, topic, try_s)
    except NotImplementedError:
        return 0
    return crc32(f"{high} {low}".encode()) or 1 if high or low else 0


async def _described(client: Any, topic: str, try_s: float) -> Any:
    """The topic's fields in the response of any broker."""
    response = await ask_any(client, _DescribeTopic(topic), try_s)
    for found in response.topics:
        if found[0]:
            raise for_code(found[0])(topic)
        return found
    raise KafkaError(f"the broker describes no topic {topic}")
