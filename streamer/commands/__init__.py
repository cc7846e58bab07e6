"""The command line `streamer`: one file for each command.

In: arguments and settings. Out: text on standard output, and exit status 0 (success), 1 (failure) or 2 (wrong
settings). A command imports gRPC, the Kafka client and rich only when it needs them: `--help` stays fast, and a worker
small. It may import everything except `testing`.
"""

import json
import sys
from typing import Annotated

import typer

from streamer import aiohttp_certificates, logs, native  # noqa: F401  before other imports of aiohttp and structlog
from streamer.commands import (
    check_config,
    dlq,
    doctor,
    explain,
    model,
    run,
    schema,
    send,
    serve_http,
    spec,
    table,
    tail,
    topics,
)
from streamer.commands.options import AsJson
from streamer.distribution import NAME, installed_version, repairable
from streamer.errors import ConfigError, SpecError, StreamerError
from streamer.settings.names import printable
from streamer.settings.table import settings_json, settings_table

app = typer.Typer(
    name="streamer",
    help="Scores the candidates of bid requests: reads from Kafka, calls TensorFlow Serving, writes to Kafka.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("serve-http")(serve_http.serve_http)
app.command("check-config")(check_config.check_config)
app.command("doctor")(doctor.doctor)
app.command("explain")(explain.explain)
app.command("schema")(schema.schema)
app.command("send")(send.send)
app.command("tail")(tail.tail)
app.add_typer(dlq.app, name="dlq")
app.add_typer(model.app, name="model")
app.add_typer(spec.app, name="spec")
app.add_typer(table.app, name="table")
app.add_typer(topics.app, name="topics")


_SERVICES = ("run", "serve-http")


@app.command()
def settings(*, as_json: AsJson = False) -> None:
    """Print all settings with their defaults and descriptions, as Markdown."""
    typer.echo(json.dumps({"settings": settings_json()}) + "\n" if as_json else settings_table(), nl=False)


def _show_versions(asked: bool) -> None:
    if asked:
        typer.echo(f"{NAME} {installed_version()}\n{NAME}-native: {native.state}")
        raise typer.Exit


@app.callback()
def streamer(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_versions, is_eager=True, help="Print the versions.")
    ] = False,
) -> None:
    """The scorer."""


def main() -> None:
    """Runs a command. Exit status: 0 success, 1 failure, 2 wrong arguments, extra or file."""
    try:
        app()
    except StreamerError as error:
        _fail(str(error), 2 if isinstance(error, ConfigError | SpecError) else 1)
    except (ImportError, OSError) as error:
        found = repairable(error)
        if found is None or (isinstance(error, OSError) and error.filename is None and sys.argv[1] in _SERVICES):
            raise  # a defect: the traceback says where
        _fail(*found)


def _fail(message: str, status: int) -> None:
    from rich.console import Console  # noqa: PLC0415

    line = f"streamer: {printable(message, keep_lines=True)}"
    Console(stderr=True, highlight=False).print(line, markup=False, soft_wrap=True)
    sys.exit(status)
