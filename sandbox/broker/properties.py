"""Settings of one Apache Kafka node that is broker and controller. Pure."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sandbox.host.ports import LOOPBACK

_PROPERTIES: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "INTERNAL",
    "listener.security.protocol.map": "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "message.max.bytes": str(8 << 20),
    "replica.fetch.max.bytes": str(8 << 20),
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # Retention by size only: retention by time would delete replayed records, whose timestamps are years old.
    "log.retention.ms": "-1",
    "log.retention.bytes": str(1 << 30),
    "log.segment.bytes": str(128 << 20),
    "log.index.size.max.bytes": str(1 << 20),
    "log.cleaner.dedupe.buffer.size": str(16 << 20),
    "num.network.threads": "2",
    "num.io.threads": "4",
    # On a busy machine a heartbeat may be late, and the controller must not fence the only broker. A killed broker
    # needs as long to register again.
    "broker.session.timeout.ms": "18000",
    # An idle broker writes no metadata record every 500 ms.
    "metadata.max.idle.interval.ms": "0",
    "background.threads": "2",
    "group.coordinator.threads": "1",
    "share.coordinator.threads": "1",
}


class Ports(NamedTuple):
    """Ports of the three listeners of a node."""

    client: int
    internal: int
    controller: int


def node_properties(
    ports: Ports, records: Path, *, advertised_port: int | None, overrides: Mapping[str, str]
) -> dict[str, str]:
    """All properties of a node that keeps its records in `records`.

    `advertised_port` is the port of CLIENT in the metadata for clients; None: the port of the listener.
    """
    names = "CLIENT://{0}:{1},INTERNAL://{0}:{2}"
    listeners = names.format(LOOPBACK, ports.client, ports.internal)
    return {
        **_PROPERTIES,
        "listeners": f"{listeners},CONTROLLER://{LOOPBACK}:{ports.controller}",
        "advertised.listeners": names.format(LOOPBACK, advertised_port or ports.client, ports.internal),
        # A static quorum instead of `--standalone`: the data folder then contains no port and can use other ports.
        "controller.quorum.voters": f"1@{LOOPBACK}:{ports.controller}",
        "log.dirs": str(records),
        **overrides,
    }
