"""The peers, each with the settings that were best in measurements."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Peer:
    """One program to compare with.

    Attributes:
        name: of its module or folder in this package, and of its requirements.
        title: the name of the framework.
        settings: options of its command line.
    """

    name: str
    title: str
    settings: Mapping[str, int]


PYTHON_PEERS = (
    Peer("confluent", "confluent-kafka (asyncio)", {"calls": 3, "per-call": 4}),
    Peer("quix", "Quix Streams", {"processes": 2}),
    Peer("bytewax", "Bytewax", {"workers": 2, "per-call": 8}),
    Peer("faust", "Faust", {"concurrency": 8, "buffered": 512, "per-call": 4}),
)
KAFKA_STREAMS = Peer("kafka_streams", "Kafka Streams (Java)", {"threads": 4, "linger-ms": 0})
PEERS = (*PYTHON_PEERS, KAFKA_STREAMS)
