"""Settings of Apache Kafka nodes that are brokers and controllers. Pure but for random ids."""

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Member:
    """The place of one node in a cluster.

    Attributes:
        node_id: 1 for the first node.
        voters: the port of CONTROLLER of each node of the cluster, by node id.
    """

    node_id: int
    cluster_id: str
    ports: Ports
    voters: Mapping[int, int]


def new_cluster_id() -> str:
    """A random cluster id in Kafka's format, which does not start with a dash."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")


def replicated(nodes: int) -> dict[str, str]:
    """Properties of a cluster of `nodes` nodes.

    It keeps three copies of a record, if it has three nodes, and accepts it with two in sync.
    """
    copies, in_sync = str(min(nodes, 3)), str(min(nodes, 2))
    return {
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        "controlled.shutdown.enable": "true",
        # Kafka's default: a killed broker keeps its partitions until this time has passed.
        "broker.session.timeout.ms": "9000",
    }


def node_properties(
    ports: Ports,
    records: Path,
    *,
    advertised_port: int | None,
    overrides: Mapping[str, str],
    member: Member | None = None,
) -> dict[str, str]:
    """All properties of a node that keeps its records in `records`.

    `advertised_port` is the port of CLIENT in the metadata for clients; None: the port of the listener.
    `member` None: the node is a cluster of its own.
    """
    names = "CLIENT://{0}:{1},INTERNAL://{0}:{2}"
    listeners = names.format(LOOPBACK, ports.client, ports.internal)
    voters = {1: ports.controller} if member is None else member.voters
    return {
        **_PROPERTIES,
        **({} if member is None else {"node.id": str(member.node_id), **replicated(len(voters))}),
        "listeners": f"{listeners},CONTROLLER://{LOOPBACK}:{ports.controller}",
        "advertised.listeners": names.format(LOOPBACK, advertised_port or ports.client, ports.internal),
        # A static quorum instead of `--standalone`: the data folder then contains no port and can use other ports.
        "controller.quorum.voters": ",".join(f"{node}@{LOOPBACK}:{port}" for node, port in voters.items()),
        "log.dirs": str(records),
        **overrides,
    }
