"""Starts broker, model server and scorer together, and stops them."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from sandbox.broker.broker import Broker, open_broker
from sandbox.broker.topics import Topics
from sandbox.host.ports import free_ports
from sandbox.processes.model_server import ModelServerProcess
from sandbox.processes.progress import step
from sandbox.processes.scorer import ScorerProcess

Protocol = Literal["grpc", "rest"]
MODEL = "ctr"
_PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class System:
    """A running broker, model server and scorer.

    Attributes:
        settings: the settings of the scorer that differ from the defaults, by dotted name.
    """

    broker: Broker
    server: ModelServerProcess
    scorer: ScorerProcess
    settings: Mapping[str, object]


@contextmanager
def running_broker(console: Console) -> Iterator[Broker]:
    """A running broker; prints its kind and address. Raises BrokerError."""
    with ExitStack() as stack:
        with step(console, "broker"):
            broker = stack.enter_context(open_broker())
        kind = "Apache Kafka" if broker.kind == "kafka" else f"librdkafka's embedded cluster ({broker.reason})"
        console.print(f"  {kind} at {broker.bootstrap_servers}", markup=False)
        if broker.kind == "embedded":
            console.print(
                "  It keeps few records, so the bidder waits while many requests have no answer; with Java 17 and Maven"
                " on the PATH the demo uses Apache Kafka",
                soft_wrap=True,
            )
        yield broker


@contextmanager
def running_system(
    console: Console,
    folder: Path,
    topics: Topics,
    *,
    broker: Broker | None = None,
    settings: Mapping[str, object] | None = None,
    server_flags: Mapping[str, object] | None = None,
    protocol: Protocol = "grpc",
) -> Iterator[System]:
    """Starts broker, model server and scorer, and stops them in the reverse order at the end.

    Args:
        folder: has the versions of the model in `models/ctr`; receives the logs.
        topics: the topics of the scorer, which this function creates.
        broker: a running broker, which this function does not stop; None: it starts one.
        settings: further settings of the scorer, by dotted name.
        server_flags: further flags of the model server.
        protocol: of the scorer's calls to the model server.

    Raises:
        BrokerError, ModelServerError, ScorerError: a topic cannot be created, or a process cannot be started.
    """
    with ExitStack() as stack:
        if broker is None:
            broker = stack.enter_context(running_broker(console))
        for topic in topics:
            broker.create_topic(topic, _PARTITIONS)
        server = ModelServerProcess(
            model_base(folder),
            MODEL,
            rest_port=free_ports(1)[0] if protocol == "rest" else None,
            flags=server_flags,
            log_path=folder / "model_server.log",
        )
        with step(console, f"model server: {server.version}"):
            stack.enter_context(server)
        all_settings = {
            "kafka.bootstrap_servers": broker.bootstrap_servers,
            "source.topic": topics.requests,
            "sink.topic": topics.scores,
            "sink.dead_letter_topic": topics.dead_letters,
            "predictor.protocol": protocol,
            "predictor.addresses": [server.address if protocol == "grpc" else server.rest_address],
            "predictor.models": [MODEL],
            **({"source.fetch_max_wait_ms": broker.fetch_wait_ms} if broker.kind == "embedded" else {}),
            **(settings or {}),
        }
        with step(console, "scorer"):
            scorer = stack.enter_context(ScorerProcess(all_settings, folder / "scorer.log"))
        yield System(broker, server, scorer, all_settings)


def model_base(folder: Path) -> Path:
    """The base path of the model's versions in the folder of a system."""
    return folder / "models" / MODEL
