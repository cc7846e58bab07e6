"""A real Apache Kafka node for one machine: broker and controller in one Java process, loopback only."""

import base64
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from confluent_kafka import KafkaException

from sandbox.broker.admin import admin_client, create_topic
from sandbox.broker.errors import BrokerError
from sandbox.broker.jars import kafka_version, log_tail, own_group_command, prefetch
from sandbox.broker.ports import LOOPBACK, accepts, free_ports, is_free

# Two seconds on an idle machine; over a minute has been seen on a starved one. A broker that ends is noticed at once.
_START_TIMEOUT_S = 600.0
_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.05
_PORT_ATTEMPTS = 3

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
    # Retention by size only: replayed records carry timestamps of past years and would vanish under one by time.
    "log.retention.ms": "-1",
    "log.retention.bytes": str(1 << 30),
    "log.segment.bytes": str(128 << 20),
    "log.index.size.max.bytes": str(1 << 20),
    "log.cleaner.dedupe.buffer.size": str(16 << 20),
    "num.network.threads": "2",
    "num.io.threads": "4",
    # On a starved machine a heartbeat may come late, and the only broker must not be fenced for it. A killed broker's
    # return waits as long.
    "broker.session.timeout.ms": "18000",
    # An idle broker sleeps: no record twice a second that says nothing.
    "metadata.max.idle.interval.ms": "0",
    "background.threads": "2",
    "group.coordinator.threads": "1",
    "share.coordinator.threads": "1",
}


class KafkaBroker:
    """One Apache Kafka node in KRaft mode.

    ``data_dir`` keeps its records, settings and log (default: a temporary folder that goes when the context ends or
    the object does). The port is chosen at the first start unless given, and stays for the object's life.
    ``config`` overrides broker properties; the listener for clients is named CLIENT, and INTERNAL is one more on
    loopback that stays plaintext for the broker itself, so CLIENT can be given TLS or SASL alone. With
    ``advertised_port`` it tells the clients of CLIENT to find it there, at a proxy say.

    The process dies with the thread that started it, so start it from one that lives as long as the broker should.
    Not safe for use from several threads at once.
    """

    kind: Literal["kafka"] = "kafka"

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int | None = None,
        advertised_port: int | None = None,
        heap_mb: int = 512,
        start_timeout_s: float = _START_TIMEOUT_S,
        config: Mapping[str, str] | None = None,
    ) -> None:
        self.reason = f"Apache Kafka {kafka_version()}"
        self._temporary = data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="kafka-")) if data_dir is None else data_dir.absolute()
        if self._temporary:
            weakref.finalize(self, shutil.rmtree, self.data_dir, ignore_errors=True)
        self.log_path = self.data_dir / "broker.log"
        self._fixed_port = port
        self._advertised_port = advertised_port
        self._ports: tuple[int, int, int] | None = None  # of CLIENT, INTERNAL and CONTROLLER
        self._heap_mb = heap_mb
        self._start_timeout_s = start_timeout_s
        self._config = dict(config or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """``127.0.0.1:port`` of the CLIENT listener. Raises BrokerError before the first start."""
        return f"{LOOPBACK}:{self._known_ports()[0]}"

    @property
    def internal_servers(self) -> str:
        """``127.0.0.1:port`` of the plaintext INTERNAL listener. Raises BrokerError before the first start."""
        return f"{LOOPBACK}:{self._known_ports()[1]}"

    @property
    def pid(self) -> int | None:
        """Process id, or None if the broker does not run."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the process lives; a paused one does."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts the broker and returns when it answers requests; does nothing if it runs.

        Raises BrokerError, with the end of its log, if it ends early or is not ready in time; leaves no process then.
        """
        if self.running:
            return
        libs = prefetch()
        deadline = time.monotonic() + self._start_timeout_s
        self.data_dir.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            chosen_now = self._ports is None
            if self._ports is None:
                client, internal, controller = free_ports(3)
                self._ports = (self._fixed_port or client, internal, controller)
            taken = [port for port in self._ports if not is_free(port)]
            if taken and not chosen_now:
                raise BrokerError(f"cannot start on the ports of before: {taken} are taken by another process")
            if self._fixed_port in taken:
                raise BrokerError(f"port {self._fixed_port} of {LOOPBACK} is taken by another process")
            try:
                self._launch(libs, deadline)
            except BaseException as error:
                self.kill()
                lost_race = chosen_now and isinstance(error, BrokerError) and "Address already in use" in str(error)
                if chosen_now:
                    self._ports = None
                if not lost_race or attempt == _PORT_ATTEMPTS:
                    raise
            else:
                return

    def stop(self) -> None:
        """Ends the broker gracefully (SIGTERM); kills it after 30 s. The data stay."""
        if self._process is None:
            return
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends the broker at once (SIGKILL), as a crash would. The data stay."""
        if self._process is None:
            return
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stops gracefully, then starts with the same data on the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freezes the process (SIGSTOP): connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continues a paused process (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> int:
        """Creates a topic and returns its number of partitions. Raises BrokerError as ``admin.create_topic`` does."""
        create_topic(self.internal_servers, name, partitions, config)
        return partitions

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
        address = "no port yet" if self._ports is None else self.bootstrap_servers
        return f"KafkaBroker({address}, {'stopped' if self.pid is None else f'pid {self.pid}'}, {self.data_dir})"

    def _known_ports(self) -> tuple[int, int, int]:
        if self._ports is None:
            raise BrokerError("the broker has no port before its first start")
        return self._ports

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def _launch(self, libs: Path, deadline: float) -> None:
        properties = self._write_properties()
        # One log for each start, so that its end tells of this start; the one before is kept for crash reports.
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_suffix(".previous.log"))
        if not (self.data_dir / "records" / "meta.properties").exists():
            cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
            self._spawn(
                libs,
                128,
                "-XX:TieredStopAtLevel=1",
                "kafka.tools.StorageTool",
                "format",
                "-t",
                cluster_id,
                "-c",
                str(properties),
            )
            if self._wait_for_exit(deadline) != 0:
                raise self._failure("Apache Kafka could not format its data folder")
        self._spawn(libs, self._heap_mb, "kafka.Kafka", str(properties))
        while not self._answers():
            if not self.running:
                raise self._failure("Apache Kafka ended while starting")
            if time.monotonic() >= deadline:
                raise self._failure(f"Apache Kafka was not ready within {self._start_timeout_s:.0f} s")
            time.sleep(_POLL_S)

    def _write_properties(self) -> Path:
        client, internal, controller = self._known_ports()
        names = "CLIENT://{0}:{1},INTERNAL://{0}:{2}"
        listeners = names.format(LOOPBACK, client, internal)
        merged = {
            **_PROPERTIES,
            "listeners": f"{listeners},CONTROLLER://{LOOPBACK}:{controller}",
            "advertised.listeners": names.format(LOOPBACK, self._advertised_port or client, internal),
            # A static quorum, not `--standalone`: the data folder then remembers no port and may be moved to others.
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
            "log.dirs": str(self.data_dir / "records"),
            **self._config,
        }
        path = self.data_dir / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in merged.items()), "utf-8")
        return path

    def _spawn(self, libs: Path, heap_mb: int, *program: str) -> None:
        options = [f"-Xms{heap_mb}m", f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"]
        # A broker for minutes: the second compiler would never earn back what it costs on two cores.
        options += ["-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
        options += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
        command = own_group_command(["java", *options, "-cp", f"{libs}/*", *program])
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.data_dir, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _wait_for_exit(self, deadline: float) -> int | None:
        assert self._process is not None
        try:
            return self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None

    def _answers(self) -> bool:
        """Whether the broker is registered, serves metadata and listens for clients."""
        client, internal, _ = self._known_ports()
        if not (accepts(internal) and accepts(client)):
            return False
        try:
            return bool(admin_client(self.internal_servers).list_topics(timeout=2.0).brokers)
        except KafkaException:
            return False

    def _failure(self, what: str) -> BrokerError:
        status = None if self._process is None else self._process.poll()
        tail = log_tail(self.log_path.read_text("utf-8", "replace"))
        return BrokerError(f"{what} (exit status {status}; log {self.log_path}):\n{tail}")
