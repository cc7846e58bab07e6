"""A Kafka broker for one machine: real Apache Kafka where Java and Maven exist, else librdkafka's embedded cluster."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from sandbox.broker.admin import create_topic
from sandbox.broker.embedded import EmbeddedBroker
from sandbox.broker.errors import BrokerError, BrokerUnsupportedError
from sandbox.broker.jars import prefetch
from sandbox.broker.kafka import KafkaBroker

__all__ = [
    "Broker",
    "BrokerError",
    "BrokerUnsupportedError",
    "EmbeddedBroker",
    "KafkaBroker",
    "create_topic",
    "open_broker",
    "prefetch",
]


class Broker(Protocol):
    """What both kinds of broker can do. Everything beyond, such as a crash, needs a ``KafkaBroker``."""

    @property
    def kind(self) -> Literal["kafka", "embedded"]: ...

    @property
    def reason(self) -> str:
        """Why it is this kind of broker, for people."""

    @property
    def bootstrap_servers(self) -> str:
        """``host:port``. Raises BrokerError before the first start."""

    def start(self) -> None:
        """Returns when the broker answers. Raises BrokerError."""

    def stop(self) -> None:
        """Leaves no process and no thread; may be called again."""

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> int:
        """Creates a topic; returns how many partitions it really has. Raises BrokerError."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def open_broker(data_dir: Path | None = None, require_kafka: bool = False) -> Broker:
    """Picks the best broker that this machine can run, not started yet; fetches Kafka's jars at the first time.

    The embedded broker ignores ``data_dir``. Raises BrokerError if ``require_kafka`` and no real one can run.
    """
    try:
        prefetch()
    except BrokerError as error:
        if require_kafka:
            raise
        return EmbeddedBroker(reason=str(error))
    return KafkaBroker(data_dir)
