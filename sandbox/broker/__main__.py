"""`python -m sandbox.broker`: runs Apache Kafka in the foreground until SIGTERM or SIGINT."""

import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sandbox.broker.errors import BrokerError
from sandbox.broker.jars import log_tail, prefetch
from sandbox.broker.kafka import KafkaBroker

_WATCH_S = 0.5


def main(
    port: Annotated[int | None, typer.Option(help="Port for clients on 127.0.0.1; default: a free port.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder for the records; default: a temporary folder.")] = None,
    heap_mb: Annotated[int, typer.Option(help="Java heap in MiB.")] = 512,
    fetch_only: Annotated[bool, typer.Option("--fetch-only", help="Fetch Kafka's jars and exit.")] = False,
) -> None:
    """Runs Apache Kafka in the foreground and prints its bootstrap servers."""
    console = Console(stderr=True)
    try:
        if fetch_only:
            prefetch(console)
            return
        signal.signal(
            signal.SIGTERM, signal.default_int_handler
        )  # SIGTERM then has the effect of Ctrl-C, also during the start
        with KafkaBroker(data, port=port, heap_mb=heap_mb) as broker:
            typer.echo(broker.bootstrap_servers)
            while broker.running:
                time.sleep(_WATCH_S)
            console.print(log_tail(broker.log_path.read_text("utf-8", "replace")), markup=False, highlight=False)
            console.print("Apache Kafka exited unexpectedly", style="red")
            sys.exit(1)
    except KeyboardInterrupt:
        return
    except BrokerError as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
