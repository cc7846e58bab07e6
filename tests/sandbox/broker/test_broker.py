"""Brokers of the sandbox: Apache Kafka through its life cycle, and the embedded fallback."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Producer

from sandbox.broker.__main__ import main as command
from sandbox.broker.admin import create_topic
from sandbox.broker.broker import open_broker
from sandbox.broker.embedded import EmbeddedBroker
from sandbox.broker.errors import BrokerError, BrokerUnsupportedError
from sandbox.broker.jars import LIBS_VARIABLE
from sandbox.broker.kafka import KafkaBroker
from sandbox.host.ports import accepts, free_ports
from tests.kafka_fixtures import FreshTopic

_WAIT_S = 120.0


def _produce(bootstrap: str, topic: str, values: list[bytes], idempotent: bool = True) -> None:
    """Produces to partition 0 and waits for every acknowledgement."""
    errors: list[KafkaError] = []
    # Idempotent, so that a retry cannot change the order. Retries are common on a new topic.
    settings = {"bootstrap.servers": bootstrap, "log_level": 2, "message.max.bytes": 8 << 20}
    producer = Producer({**settings, "enable.idempotence": idempotent})
    for value in values:
        producer.produce(
            topic, value, partition=0, on_delivery=lambda error, _: errors.extend([error] if error else [])
        )
    assert producer.flush(_WAIT_S) == 0
    assert errors == []


def _consume(bootstrap: str, topic: str, count: int) -> list[bytes]:
    """The first `count` values of a topic, read by a consumer group."""
    settings = {"bootstrap.servers": bootstrap, "log_level": 2, "group.id": f"{topic}-readers"}
    consumer = Consumer({**settings, "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe([topic])
    values: list[bytes] = []
    deadline = time.monotonic() + _WAIT_S
    try:
        while len(values) < count and time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                values.append(message.value())
    finally:
        consumer.close()
    return values


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker for the tests that stop it; each test leaves it running."""
    with KafkaBroker(tmp_path_factory.mktemp("kafka"), heap_mb=256) as broker:
        yield broker


@pytest.mark.kafka
def test_a_record_travels_through_kafka(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    topic = fresh_topic(partitions=2)
    large = os.urandom(5 << 20)
    _produce(kafka.bootstrap_servers, topic, [b"first", large])
    assert _consume(kafka.bootstrap_servers, topic, 2) == [b"first", large]


@pytest.mark.kafka
def test_topics_are_never_created_by_mistake(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    with pytest.raises(BrokerError, match="already exists"):
        create_topic(kafka.bootstrap_servers, fresh_topic())
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 2})
    unknown = producer.list_topics("never-created", timeout=_WAIT_S).topics["never-created"]
    assert unknown.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART


@pytest.mark.slow
@pytest.mark.kafka
def test_data_and_port_are_the_same_after_a_restart_and_a_crash(own_kafka: KafkaBroker) -> None:
    address = own_kafka.bootstrap_servers
    own_kafka.create_topic("kept")
    _produce(address, "kept", [b"before the restart"])

    first_pid = own_kafka.pid
    own_kafka.restart()
    assert own_kafka.bootstrap_servers == address
    assert own_kafka.pid != first_pid
    _produce(address, "kept", [b"before the crash"])

    own_kafka.kill()
    assert not own_kafka.running
    own_kafka.start()
    assert own_kafka.bootstrap_servers == address
    assert _consume(address, "kept", 2) == [b"before the restart", b"before the crash"]


@pytest.mark.slow
@pytest.mark.kafka
def test_a_paused_broker_answers_after_it_is_resumed(own_kafka: KafkaBroker) -> None:
    own_kafka.create_topic("paused")
    own_kafka.pause()
    producer = Producer({"bootstrap.servers": own_kafka.bootstrap_servers, "log_level": 2})
    producer.produce("paused", b"patient")
    assert producer.flush(0.5) == 1
    assert own_kafka.running
    own_kafka.resume()
    assert producer.flush(_WAIT_S) == 0


@pytest.mark.slow
@pytest.mark.kafka
def test_stop_leaves_no_process_and_no_listener(own_kafka: KafkaBroker) -> None:
    pid = own_kafka.pid
    assert pid is not None
    port = int(own_kafka.bootstrap_servers.rpartition(":")[2])
    own_kafka.pause()  # a paused broker also stops gracefully
    own_kafka.stop()
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)
    assert not accepts(port)
    assert own_kafka.pid is None
    own_kafka.stop()


@pytest.mark.slow
@pytest.mark.kafka
def test_the_error_of_a_rejected_property_has_the_log(tmp_path: Path) -> None:
    broker = KafkaBroker(tmp_path, config={"num.io.threads": "none"})
    with pytest.raises(BrokerError, match=r"num\.io\.threads"):
        broker.start()
    assert not broker.running


@pytest.mark.slow
@pytest.mark.kafka
def test_the_command_serves_until_a_signal_and_its_broker_ends_with_it(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "sandbox.broker", "--port", str(port), "--data", str(tmp_path), "--heap-mb", "256"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"127.0.0.1:{port}\n"
            assert accepts(port)
            process.send_signal(signal.SIGKILL)
            process.wait(_WAIT_S)
        finally:
            process.kill()
    deadline = time.monotonic() + _WAIT_S
    while accepts(port) and time.monotonic() < deadline:
        os.sched_yield()
    assert not accepts(port)


def test_a_data_folder_that_cannot_be_written_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            command(data=Path("/proc/records"))
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Apache Kafka's data folder cannot be written: ")


def test_a_java_that_may_not_be_started_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path))  # which starts Java
    with pytest.raises(BrokerError, match=r"^Java cannot be started: .*Permission denied"):
        KafkaBroker(tmp_path / "data").start()


def test_without_java_the_embedded_broker_has_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerError, match="no `java` on PATH"):
        open_broker(require_kafka=True)
    broker = open_broker()
    assert broker.kind == "embedded"
    assert "no `java` on PATH" in broker.reason


def test_without_maven_and_jars_the_error_names_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"21.0.1\"' >&2\n", "utf-8")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(LIBS_VARIABLE, str(tmp_path / "libs"))
    with pytest.raises(BrokerError, match="no `mvn` on PATH"):
        open_broker(require_kafka=True)


def test_the_error_has_the_tail_of_mavens_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, script in (("java", "echo 'version \"17.0.1\"' >&2"), ("mvn", "echo 'no route to host'; exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(LIBS_VARIABLE, str(tmp_path / "libs"))
    with pytest.raises(BrokerError, match="no route to host"):
        open_broker(require_kafka=True)
    assert [entry.name for entry in (tmp_path / "libs").iterdir()] == [".lock"]


def test_an_embedded_broker_does_a_round_trip() -> None:
    with EmbeddedBroker() as broker:
        assert broker.create_topic("flow", partitions=2) == 4
        _produce(broker.bootstrap_servers, "flow", [b"once"], idempotent=False)
        assert _consume(broker.bootstrap_servers, "flow", 1) == [b"once"]
        with pytest.raises(BrokerUnsupportedError, match="cannot be killed"):
            broker.kill()
    assert not broker.running
