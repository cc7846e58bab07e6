"""A cluster of Apache Kafka nodes on loopback, each of them broker and controller."""

import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from confluent_kafka import KafkaException

from sandbox.broker.admin import admin_client, create_topic
from sandbox.broker.errors import BrokerError
from sandbox.broker.jars import kafka_version, prefetch
from sandbox.broker.kafka import KafkaBroker
from sandbox.broker.properties import Member, Ports, new_cluster_id, replicated
from sandbox.host.ports import free_ports, is_free

NODES = 3
NODE_HEAP_MB = 384
_START_TIMEOUT_S = 600.0
_IN_SYNC_TIMEOUT_S = 120.0
_LIST_S = 5.0
_POLL_S = 0.1


class KafkaCluster:
    """Several Apache Kafka nodes in KRaft mode, with a static quorum of all of them.

    - Three nodes keep three copies of each record, also of internal topics; two must be in sync to accept a record.
    - `nodes[i]` can be stopped, killed and restarted; after a restart wait with `wait_until_in_sync`.
    - `ports`: the ports for clients, one for each node; default: free ports. All ports are chosen by the constructor
      and stay the same.
    - `data_dir` has one folder for each node. Default: a temporary folder, deleted with the context or object.
    - `config` overrides properties of all nodes.

    The thread that starts a node must live as long as it. Not safe for use from several threads.
    """

    kind: Literal["kafka"] = "kafka"
    unread_bytes: int | None = None
    fetch_wait_ms = 100

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        nodes: int = NODES,
        ports: Sequence[int] | None = None,
        heap_mb: int = NODE_HEAP_MB,
        start_timeout_s: float = _START_TIMEOUT_S,
        config: Mapping[str, str] | None = None,
    ) -> None:
        self.reason = f"Apache Kafka {kafka_version()}"
        self._temporary = data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="kafka-")) if data_dir is None else data_dir.absolute()
        if self._temporary:
            weakref.finalize(self, shutil.rmtree, self.data_dir, ignore_errors=True)
        self._start_timeout_s = start_timeout_s
        self._replication = int(replicated(nodes)["default.replication.factor"])
        self.nodes = tuple(
            KafkaBroker(
                self.data_dir / f"node-{member.node_id}",
                heap_mb=heap_mb,
                start_timeout_s=start_timeout_s,
                config=config,
                member=member,
            )
            for member in _members(nodes, ports, self.data_dir / "cluster-id")
        )

    @property
    def bootstrap_servers(self) -> str:
        """`127.0.0.1:port,…` of the CLIENT listeners of all nodes."""
        return ",".join(node.bootstrap_servers for node in self.nodes)

    @property
    def internal_servers(self) -> str:
        """`127.0.0.1:port,…` of the plaintext INTERNAL listeners of all nodes."""
        return ",".join(node.internal_servers for node in self.nodes)

    @property
    def running(self) -> bool:
        """Whether the processes of all nodes exist."""
        return all(node.running for node in self.nodes)

    def start(self) -> None:
        """Starts the nodes that do not run; returns when all are members and answer requests.

        Raises:
            BrokerError: a node exited or was not ready in time; then no node is left.
        """
        libs = prefetch()
        deadline = time.monotonic() + self._start_timeout_s
        stopped = [node for node in self.nodes if not node.running]
        try:
            # All at once: a node is not ready before most voters of the quorum run.
            for node in stopped:
                node.begin(libs)
            for node in stopped:
                node.serve(libs, deadline)
            for node in stopped:
                node.wait_until_ready(deadline)
            self._wait_for("all nodes in the metadata", self._all_registered, deadline)
        except BaseException:
            for node in self.nodes:
                node.kill()
            raise

    def stop(self) -> None:
        """Stops all nodes, the last one first; the data are kept."""
        for node in reversed(self.nodes):
            # Without a majority of the quorum, the controlled shutdown of the other nodes would wait in vain.
            (node.stop if node is self.nodes[-1] else node.kill)()

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> int:
        """Creates a topic with as many copies as nodes, at most three; returns its partitions.

        Raises BrokerError as `admin.create_topic` does.
        """
        create_topic(self.internal_servers, name, partitions, config, replication=self._replication)
        return partitions

    def rolling_restart(self) -> None:
        """Restarts all nodes one after the other; the next one waits until all copies are in sync.

        Raises BrokerError.
        """
        for node in self.nodes:
            node.restart()
            self.wait_until_in_sync()

    def wait_until_in_sync(self, timeout_s: float = _IN_SYNC_TIMEOUT_S) -> None:
        """Waits until all nodes are members, and all copies of all partitions are in sync.

        Raises BrokerError after `timeout_s`.
        """
        self._wait_for("all copies in sync", self._in_sync, time.monotonic() + timeout_s)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        if self._temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def __repr__(self) -> str:
        running = sum(node.running for node in self.nodes)
        return f"KafkaCluster({self.bootstrap_servers}, {running} of {len(self.nodes)} nodes run, {self.data_dir})"

    def _all_registered(self, metadata: Any) -> bool:
        return len(metadata.brokers) == len(self.nodes)

    def _in_sync(self, metadata: Any) -> bool:
        partitions = [partition for topic in metadata.topics.values() for partition in topic.partitions.values()]
        return self._all_registered(metadata) and all(
            len(partition.isrs) == len(partition.replicas) and partition.leader >= 0 for partition in partitions
        )

    def _wait_for(self, what: str, holds: Callable[[Any], bool], deadline: float) -> None:
        """Waits until the metadata of each running node have the property.

        A node's metadata can be older than those of the others.
        """
        clients = [admin_client(node.internal_servers) for node in self.nodes if node.running]
        while not all(_metadata_hold(client, holds) for client in clients):
            if time.monotonic() >= deadline:
                raise BrokerError(f"{self!r}: timeout while waiting for {what}")
            time.sleep(_POLL_S)


def _metadata_hold(client: Any, holds: Callable[[Any], bool]) -> bool:
    try:
        return holds(client.list_topics(timeout=_LIST_S))
    except KafkaException:
        return False


def _members(nodes: int, ports: Sequence[int] | None, id_path: Path) -> list[Member]:
    """The members of a cluster.

    Its id is kept in the file, so that a later cluster object can use the same data.
    """
    others = free_ports(3 * nodes)
    clients = list(ports or others[2 * nodes :])
    if len(clients) != nodes:
        raise BrokerError(f"{len(clients)} ports for {nodes} nodes")
    if taken := [port for port in clients if not is_free(port)]:
        raise BrokerError(f"another process uses {taken}")
    if not id_path.exists():
        id_path.parent.mkdir(parents=True, exist_ok=True)
        id_path.write_text(new_cluster_id(), "utf-8")
    controllers = others[nodes : 2 * nodes]
    voters = {node: controllers[node - 1] for node in range(1, nodes + 1)}
    return [
        Member(node, id_path.read_text("utf-8"), Ports(clients[node - 1], others[node - 1], voters[node]), voters)
        for node in voters
    ]
