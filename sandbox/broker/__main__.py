"""`python -m sandbox.broker`: runs Apache Kafka in the foreground until SIGTERM or SIGINT."""

import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sandbox.broker.cluster import NODE_HEAP_MB, KafkaCluster
from sandbox.broker.errors import BrokerError
from sandbox.broker.jars import log_tail, prefetch
from sandbox.broker.kafka import HEAP_MB, KafkaBroker

_WATCH_S = 0.5


def main(
    port: Annotated[
        int | None, typer.Option(help="Port for clients on 127.0.0.1; further nodes use the next ones; default: free.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder for the records; default: a temporary folder.")] = None,
    heap_mb: Annotated[
        int | None, typer.Option(help="Java heap of each node in MiB; default: 512; in a cluster 384.")
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes; three keep three copies of each record.")] = 1,
    fetch_only: Annotated[bool, typer.Option("--fetch-only", help="Fetch Kafka's jars and exit.")] = False,
) -> None:
    """Runs Apache Kafka in the foreground and prints its bootstrap servers.

    Exit status: 0 after a signal, 1 if it ends by itself, 2 if it cannot start.
    """
    console = Console(stderr=True)
    try:
        if fetch_only:
            prefetch(console)
            return
        signal.signal(
            signal.SIGTERM, signal.default_int_handler
        )  # SIGTERM then has the effect of Ctrl-C, also during the start
        with _opened(data, port, heap_mb, nodes) as brokers:
            typer.echo(brokers.bootstrap_servers)
            while brokers.running:
                time.sleep(_WATCH_S)
            ended = brokers if isinstance(brokers, KafkaBroker) else next(n for n in brokers.nodes if not n.running)
            console.print(log_tail(ended.log_path.read_text("utf-8", "replace")), markup=False, highlight=False)
            console.print("Apache Kafka exited unexpectedly", style="red")
            sys.exit(1)
    except KeyboardInterrupt:
        return
    except BrokerError as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)


def _opened(data: Path | None, port: int | None, heap_mb: int | None, nodes: int) -> KafkaBroker | KafkaCluster:
    """One broker or a cluster, not started yet."""
    if nodes == 1:
        return KafkaBroker(data, port=port, heap_mb=heap_mb or HEAP_MB)
    ports = None if port is None else range(port, port + nodes)
    return KafkaCluster(data, nodes=nodes, ports=ports, heap_mb=heap_mb or NODE_HEAP_MB)


if __name__ == "__main__":
    typer.run(main)
