"""librdkafka's embedded mock cluster: the fallback where no real Apache Kafka can run."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self

from confluent_kafka import KafkaException, Producer

from sandbox.broker.errors import BrokerError, BrokerUnsupportedError

# librdkafka gives every topic this many partitions at its first mention; it cannot be changed from Python.
EMBEDDED_PARTITIONS = 4
_START_TIMEOUT_S = 10.0


class EmbeddedBroker:
    """One mock broker in threads of this process, reachable from other processes of this machine.

    It keeps about 5 MB of each partition and nothing after ``stop``: good for showing the flow, useless for
    judging loss. Topics appear at their first mention. It cannot be killed, paused or restarted.
    """

    kind: Literal["embedded"] = "embedded"

    def __init__(self, reason: str = "asked for by name") -> None:
        self.reason = reason
        self._cluster: Any = None
        self._bootstrap_servers = ""

    @property
    def bootstrap_servers(self) -> str:
        """``host:port``. Raises BrokerError unless started: librdkafka picks the port then."""
        if self._cluster is None:
            raise BrokerError("the embedded broker has no address before it is started")
        return self._bootstrap_servers

    @property
    def running(self) -> bool:
        return self._cluster is not None

    def start(self) -> None:
        """Starts the cluster; does nothing if it runs. Raises BrokerError if it does not answer in 10 s."""
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
        """Ends the cluster and forgets every record."""
        self._cluster = None

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> int:
        """Mentions the topic, so that it exists, and returns its number of partitions: 4, whatever was asked for."""
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


def _unsupported(what: str) -> BrokerUnsupportedError:
    return BrokerUnsupportedError(f"the embedded broker cannot {what}; use a real Apache Kafka (require_kafka=True)")
