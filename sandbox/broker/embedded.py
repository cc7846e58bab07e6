"""librdkafka's embedded mock cluster: the fallback if this machine cannot run Apache Kafka."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self

from confluent_kafka import KafkaException, Producer

from sandbox.broker.errors import BrokerError, BrokerUnsupportedError

# librdkafka creates every topic with this number of partitions; Python cannot change it.
EMBEDDED_PARTITIONS = 4
_START_TIMEOUT_S = 10.0
_KEPT_BYTES = 5_000_000  # of a partition; older records vanish, also unread ones


class EmbeddedBroker:
    """One mock broker in threads of this process; other processes of this machine can use it.

    It keeps about 5 MB of each partition, and nothing after `stop`: it can show the flow, but lost records prove
    nothing. The first request for a topic creates it. It cannot be killed, paused or restarted.

    It answers a fetch without records only after the fetch's longest wait, not when a record arrives: that wait is the
    delay of a record.
    """

    kind: Literal["embedded"] = "embedded"
    unread_bytes: int | None = _KEPT_BYTES // 2
    fetch_wait_ms = 5

    def __init__(self, reason: str = "chosen explicitly") -> None:
        self.reason = reason
        self._cluster: Any = None
        self._bootstrap_servers = ""

    @property
    def bootstrap_servers(self) -> str:
        """`host:port`. Raises BrokerError before `start`, because librdkafka chooses the port then."""
        if self._cluster is None:
            raise BrokerError("the embedded broker has no address before it is started")
        return self._bootstrap_servers

    @property
    def running(self) -> bool:
        return self._cluster is not None

    def start(self) -> None:
        """Starts the cluster unless it runs. Raises BrokerError if it does not answer within 10 s."""
        if self._cluster is not None:
            return
        cluster = Producer({"test.mock.num.brokers": 1, "log_level": 2})
        try:
            brokers = cluster.list_topics(timeout=_START_TIMEOUT_S).brokers.values()
        except KafkaException as error:
            raise BrokerError(f"librdkafka's embedded cluster does not answer: {error}") from error
        self._bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        self._cluster = cluster

    def stop(self) -> None:
        """Ends the cluster and deletes every record."""
        self._cluster = None

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> int:
        """Requests the topic, which creates it; returns its number of partitions, always 4."""
        del partitions, config
        if self._cluster is None:
            raise BrokerError("the embedded broker is not started")
        return len(self._cluster.list_topics(name, timeout=_START_TIMEOUT_S).topics[name].partitions)

    def restart(self) -> None:
        """Raises BrokerUnsupportedError."""
        raise _unsupported("restart with its data")

    def kill(self) -> None:
        """Raises BrokerUnsupportedError."""
        raise _unsupported("be killed")

    def pause(self) -> None:
        """Raises BrokerUnsupportedError."""
        raise _unsupported("be paused")

    def resume(self) -> None:
        """Raises BrokerUnsupportedError."""
        raise _unsupported("be resumed")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"EmbeddedBroker({self._bootstrap_servers if self.running else 'stopped'})"


def _unsupported(operation: str) -> BrokerUnsupportedError:
    return BrokerUnsupportedError(f"the embedded broker cannot {operation}; use Apache Kafka (require_kafka=True)")
