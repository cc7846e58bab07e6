"""The interface of both kinds of broker, and the choice between them."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from sandbox.broker.embedded import EmbeddedBroker
from sandbox.broker.errors import BrokerError
from sandbox.broker.jars import prefetch
from sandbox.broker.kafka import KafkaBroker


class Broker(Protocol):
    """The operations of both kinds of broker.

    Other operations, such as `kill`, need a `KafkaBroker`.
    """

    @property
    def kind(self) -> Literal["kafka", "embedded"]: ...

    @property
    def unread_bytes(self) -> int | None:
        """Bytes of unread records up to which none is lost, in all partitions; None: no limit."""

    @property
    def fetch_wait_ms(self) -> int:
        """The longest wait of a fetch with which a consumer has new records at once."""

    @property
    def reason(self) -> str:
        """Why it is this kind of broker, as text for the screen."""

    @property
    def bootstrap_servers(self) -> str:
        """`host:port`. Raises BrokerError before the first start."""

    def start(self) -> None:
        """Starts and returns when the broker answers requests. Raises BrokerError."""

    def stop(self) -> None:
        """Ends all its processes and threads; may be called again."""

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> int:
        """Creates a topic; returns its actual number of partitions. Raises BrokerError."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def open_broker(data_dir: Path | None = None, require_kafka: bool = False) -> Broker:
    """Apache Kafka if this machine can run it, else the embedded broker; not started yet.

    The first call fetches Kafka's jars. The embedded broker ignores `data_dir`.

    Raises:
        BrokerError: `require_kafka` is true and this machine cannot run Apache Kafka.
    """
    try:
        prefetch()
    except BrokerError as error:
        if require_kafka:
            raise
        return EmbeddedBroker(reason=str(error))
    return KafkaBroker(data_dir)
