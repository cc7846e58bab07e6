"""Administration of a broker: creates topics."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from sandbox.broker.errors import BrokerError

_REQUEST_TIMEOUT_S = 120.0
_STEP_S = 0.05


def admin_client(bootstrap: str) -> AdminClient:
    """An administration client that does not log reconnections to standard error."""
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 2, "socket.timeout.ms": 60_000})


def create_topic(
    bootstrap: str, name: str, partitions: int = 1, config: Mapping[str, str] | None = None, *, replication: int = 1
) -> str:
    """Creates a topic with `replication` copies, waits for its leaders, returns its name.

    Raises:
        BrokerError: the topic exists already, or the broker rejects the settings or does not answer.
    """
    client = admin_client(bootstrap)
    if name in _finish(lambda timeout: client.list_topics(timeout=timeout), "list topics").topics:
        raise BrokerError(f"could not create topic {name}: it already exists")
    topic = NewTopic(name, num_partitions=partitions, replication_factor=replication, config=dict(config or {}))
    created = client.create_topics([topic], operation_timeout=_REQUEST_TIMEOUT_S)[name]
    # The topic did not exist before. If it exists now, librdkafka has retried a request whose response was lost.
    _finish(created.result, f"create topic {name}", accept=KafkaError.TOPIC_ALREADY_EXISTS)
    deadline = time.monotonic() + _REQUEST_TIMEOUT_S
    while True:
        described: Any = _finish(lambda timeout: client.list_topics(name, timeout=timeout), f"describe topic {name}")
        leaders = [partition.leader for partition in described.topics[name].partitions.values()]
        if len(leaders) == partitions and min(leaders) >= 0:
            return name
        # The broker receives the metadata of the new topic shortly after the controller has created it.
        if time.monotonic() > deadline:
            raise BrokerError(f"topic {name} has leaders {leaders} instead of {partitions} live partitions")
        time.sleep(_STEP_S)


def _finish(call: Callable[[float], Any], action: str, accept: int | None = None) -> Any:
    """Returns the result of `call`, or None if it fails with the error code `accept`."""
    try:
        return call(_REQUEST_TIMEOUT_S + 5)
    except (KafkaException, TimeoutError) as error:
        if isinstance(error, KafkaException) and error.args[0].code() == accept:
            return None
        raise BrokerError(f"could not {action}: {error or 'timeout'}") from error
