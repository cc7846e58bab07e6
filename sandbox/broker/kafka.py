"""An Apache Kafka node on loopback: broker and controller in one Java process."""

import shutil
import signal
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from confluent_kafka import KafkaException

from sandbox.broker.admin import admin_client, create_topic
from sandbox.broker.errors import BrokerError
from sandbox.broker.jars import kafka_version, prefetch
from sandbox.broker.java import JavaProcess
from sandbox.broker.properties import Member, Ports, new_cluster_id, node_properties
from sandbox.host.ports import LOOPBACK, accepts, free_ports, is_free

# 2 s on an idle machine, over a minute on a busy one. An early exit of the process ends the wait.
_START_TIMEOUT_S = 600.0
HEAP_MB = 512
_FORMAT_HEAP_MB = 128
_POLL_S = 0.05
_PORT_ATTEMPTS = 3


class KafkaBroker:
    """One Apache Kafka node in KRaft mode.

    - `data_dir` keeps its records, properties and log. Default: a temporary folder, deleted with the context or object.
    - The port is fixed by `port` or chosen at the first start, and stays the same over restarts.
    - `config` overrides properties. The listener of clients is CLIENT. INTERNAL is a plaintext listener for the broker
      itself, so CLIENT alone can use TLS or SASL.
    - `advertised_port`: the port of CLIENT in the metadata for clients, for example that of a proxy.
    - `member`: its place in a cluster of several nodes, with its ports; `KafkaCluster` makes such nodes.

    The thread that starts the process must live as long as the broker: its end kills the process.
    Not safe for use from several threads.
    """

    kind: Literal["kafka"] = "kafka"
    unread_bytes: int | None = None
    fetch_wait_ms = 100

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int | None = None,
        advertised_port: int | None = None,
        heap_mb: int = HEAP_MB,
        start_timeout_s: float = _START_TIMEOUT_S,
        config: Mapping[str, str] | None = None,
        member: Member | None = None,
    ) -> None:
        self.reason = f"Apache Kafka {kafka_version()}"
        self._temporary = data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="kafka-")) if data_dir is None else data_dir.absolute()
        if self._temporary:
            weakref.finalize(self, shutil.rmtree, self.data_dir, ignore_errors=True)
        self.log_path = self.data_dir / "broker.log"
        self._properties_path = self.data_dir / "server.properties"
        self._fixed_port = port
        self._advertised_port = advertised_port
        self._ports: Ports | None = None
        self._heap_mb = heap_mb
        self._start_timeout_s = start_timeout_s
        self._config = dict(config or {})
        self._member = member
        if member is not None:
            self._ports = member.ports
        self._java = JavaProcess(self.data_dir, self.log_path)
        self._formatting = False

    @property
    def bootstrap_servers(self) -> str:
        """`127.0.0.1:port` of the CLIENT listener. Raises BrokerError before the first start."""
        return f"{LOOPBACK}:{self._known_ports().client}"

    @property
    def internal_servers(self) -> str:
        """`127.0.0.1:port` of the plaintext INTERNAL listener.

        Raises BrokerError before the first start.
        """
        return f"{LOOPBACK}:{self._known_ports().internal}"

    @property
    def pid(self) -> int | None:
        """Process id; None if the broker does not run."""
        return self._java.pid

    @property
    def running(self) -> bool:
        """Whether the process exists; true also while it is paused."""
        return self._java.running

    def start(self) -> None:
        """Starts the broker unless it runs, and returns when it answers requests.

        Raises:
            BrokerError: it exited or was not ready in time. The message has the tail of its log; no process is left.
        """
        if self.running:
            return
        libs = prefetch()
        deadline = time.monotonic() + self._start_timeout_s
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            chosen_now = self._ports is None
            if self._ports is None:
                client, internal, controller = free_ports(3)
                self._ports = Ports(self._fixed_port or client, internal, controller)
            taken = [port for port in self._ports if not is_free(port)]
            if taken and not chosen_now:
                raise BrokerError(f"cannot restart on the same ports: another process uses {taken}")
            if self._fixed_port in taken:
                raise BrokerError(f"another process uses port {self._fixed_port} of {LOOPBACK}")
            try:
                self.begin(libs)
                self.serve(libs, deadline)
                self.wait_until_ready(deadline)
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
        """Sends SIGTERM, and SIGKILL after 30 s. The data are kept."""
        self._java.stop()

    def kill(self) -> None:
        """Sends SIGKILL, which has the effect of a crash. The data are kept."""
        self._java.kill()

    def restart(self) -> None:
        """Stops with SIGTERM, then starts with the same data on the same port."""
        self.stop()
        self.start()

    def advertise(self, port: int) -> None:
        """From the next start on, the metadata for clients have this port of CLIENT."""
        self._advertised_port = port

    def pause(self) -> None:
        """Pauses the process (SIGSTOP): connections stay open and requests get no answer."""
        self._java.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continues a paused process (SIGCONT)."""
        self._java.signal(signal.SIGCONT)

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> int:
        """Creates a topic and returns its number of partitions.

        Raises BrokerError as `admin.create_topic` does.
        """
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

    def _known_ports(self) -> Ports:
        if self._ports is None:
            raise BrokerError("the broker has no port before its first start")
        return self._ports

    def begin(self, libs: Path) -> None:
        """Writes the properties and, at the first start, begins to format the data folder.

        Raises BrokerError.
        """
        try:
            properties = self._write_properties()
        except OSError as error:
            raise BrokerError(f"Apache Kafka's data folder cannot be written: {error}") from error
        # One log for each start, so that its tail belongs to this start. The previous log is kept for crash reports.
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_suffix(".previous.log"))
        self._formatting = not (self.data_dir / "records" / "meta.properties").exists()
        if self._formatting:
            cluster_id = new_cluster_id() if self._member is None else self._member.cluster_id
            program = ("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties))
            self._java.spawn(libs, _FORMAT_HEAP_MB, *program)

    def serve(self, libs: Path, deadline: float) -> None:
        """After `begin`: waits until the data folder is formatted, then starts the node.

        Raises BrokerError.
        """
        if self._formatting and self._java.wait(deadline) != 0:
            raise self._failure("Apache Kafka could not format its data folder")
        self._java.spawn(libs, self._heap_mb, "kafka.Kafka", str(self._properties_path))

    def wait_until_ready(self, deadline: float) -> None:
        """After `serve`: waits until the node answers, until `deadline` in monotonic seconds.

        Raises BrokerError.
        """
        while not self._answers():
            if not self.running:
                raise self._failure("Apache Kafka exited while starting")
            if time.monotonic() >= deadline:
                raise self._failure(f"Apache Kafka was not ready within {self._start_timeout_s:.0f} s")
            time.sleep(_POLL_S)

    def _write_properties(self) -> Path:
        properties = node_properties(
            self._known_ports(),
            self.data_dir / "records",
            advertised_port=self._advertised_port,
            overrides=self._config,
            member=self._member,
        )
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._properties_path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()), "utf-8")
        return self._properties_path

    def _answers(self) -> bool:
        """Whether the broker is registered, serves metadata and accepts clients."""
        ports = self._known_ports()
        if not (accepts(ports.internal) and accepts(ports.client)):
            return False
        try:
            return bool(admin_client(self.internal_servers).list_topics(timeout=2.0).brokers)
        except KafkaException:
            return False

    def _failure(self, reason: str) -> BrokerError:
        return BrokerError(self._java.failure(reason))
