"""Three Kafka nodes: their properties, and one real cluster that survives the crash of a node."""

from pathlib import Path

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from sandbox.broker.admin import admin_client
from sandbox.broker.cluster import KafkaCluster
from sandbox.broker.errors import BrokerError
from sandbox.broker.leaders import move_leaders
from sandbox.broker.properties import Member, Ports, node_properties
from sandbox.host.ports import free_ports
from streamer.commands import app

_WAIT_S = 120.0
# Shorter than Kafka's 9 s and 2 s: a killed node is replaced, and registers again, sooner.
_IMPATIENT = {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}


def _properties(member: Member | None, **overrides: str) -> dict[str, str]:
    return node_properties(Ports(1, 2, 3), Path("records"), advertised_port=None, overrides=overrides, member=member)


def test_a_single_node_keeps_one_copy_and_votes_for_itself() -> None:
    found = _properties(None)
    assert found["controller.quorum.voters"] == "1@127.0.0.1:3"
    assert (found["node.id"], found["offsets.topic.replication.factor"]) == ("1", "1")
    assert "min.insync.replicas" not in found


def test_a_node_of_three_keeps_three_copies_and_knows_all_voters() -> None:
    found = _properties(Member(2, "id", Ports(1, 2, 3), {1: 11, 2: 3, 3: 13}))
    assert found["controller.quorum.voters"] == "1@127.0.0.1:11,2@127.0.0.1:3,3@127.0.0.1:13"
    assert found["node.id"] == "2"
    copies = {key: value for key, value in found.items() if key.endswith("replication.factor")}
    assert len(copies) == 4
    assert set(copies.values()) == {"3"}
    assert {found[key] for key in found if key.endswith("min.isr") or key == "min.insync.replicas"} == {"2"}


def test_overrides_win() -> None:
    member = Member(1, "id", Ports(1, 2, 3), {1: 3, 2: 4, 3: 5})
    assert _properties(member, **{"min.insync.replicas": "1"})["min.insync.replicas"] == "1"


def test_nodes_have_distinct_ports_and_one_cluster_id(tmp_path: Path) -> None:
    ports = free_ports(3)
    cluster = KafkaCluster(tmp_path, ports=ports)
    assert cluster.bootstrap_servers == ",".join(f"127.0.0.1:{port}" for port in ports)
    every = [address for node in cluster.nodes for address in (node.bootstrap_servers, node.internal_servers)]
    assert len(set(every)) == 6
    cluster_id = (tmp_path / "cluster-id").read_text("utf-8")
    KafkaCluster(tmp_path)
    assert (tmp_path / "cluster-id").read_text("utf-8") == cluster_id
    assert not cluster.running
    with pytest.raises(BrokerError, match="2 ports for 3 nodes"):
        KafkaCluster(tmp_path, ports=ports[:2])


def _produce(bootstrap: str, topic: str, value: bytes) -> None:
    """Produces one record to each partition; a broker accepts it only with two copies in sync."""
    errors = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "log_level": 2})
    for partition in range(len(producer.list_topics(topic, timeout=_WAIT_S).topics[topic].partitions)):
        producer.produce(topic, value, partition=partition, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(_WAIT_S) == 0
    assert set(errors) == {None}


def _leaders(bootstrap: str, topic: str) -> list[int]:
    found = admin_client(bootstrap).list_topics(topic, timeout=_WAIT_S).topics[topic].partitions
    return [found[partition].leader for partition in sorted(found)]


@pytest.mark.slow
@pytest.mark.kafka
def test_a_cluster_stays_writable_without_one_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with KafkaCluster(tmp_path, config=_IMPATIENT) as cluster:
        monkeypatch.setenv("STREAMER_KAFKA__BOOTSTRAP_SERVERS", cluster.bootstrap_servers)
        monkeypatch.setenv("STREAMER_TOPICS__REPLICATION_FACTOR", "3")
        created = CliRunner().invoke(app, ["topics", "create"])
        assert created.exit_code == 0, created.output
        topic = "bid-requests"
        _produce(cluster.bootstrap_servers, topic, b"three nodes")

        before = _leaders(cluster.bootstrap_servers, topic)
        assert set(before) == {1, 2, 3}
        move_leaders(cluster.internal_servers)
        after = _leaders(cluster.bootstrap_servers, topic)
        assert [old for old, new in zip(before, after, strict=True) if old == new] == []

        cluster.nodes[0].kill()
        assert not cluster.running
        _produce(cluster.bootstrap_servers, topic, b"two nodes")

        cluster.nodes[0].start()
        cluster.wait_until_in_sync(timeout_s=_WAIT_S)
        found = admin_client(cluster.internal_servers).list_topics(topic, timeout=_WAIT_S).topics[topic].partitions
        assert all(sorted(partition.isrs) == [1, 2, 3] for partition in found.values())
