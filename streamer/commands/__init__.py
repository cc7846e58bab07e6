"""The command `streamer`."""

import sys

import typer
from rich.console import Console

from streamer.commands import check_config, dlq, explain, model, run, topics
from streamer.errors import ConfigError, StreamerError
from streamer.settings.table import settings_table

app = typer.Typer(
    name="streamer",
    help="Scores the candidates of bid requests: Kafka in, TensorFlow Serving, Kafka out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("check-config")(check_config.check_config)
app.command("explain")(explain.explain)
app.add_typer(dlq.app, name="dlq")
app.add_typer(model.app, name="model")
app.add_typer(topics.app, name="topics")


@app.command()
def settings() -> None:
    """Print all settings with their defaults and meanings, as Markdown."""
    typer.echo(settings_table(), nl=False)


def main() -> None:
    """Runs a command. Exit status: 0 done, 1 failed, 2 wrong settings or arguments."""
    try:
        app()
    except ConfigError as error:
        Console(stderr=True, highlight=False).print(f"streamer: {error}", markup=False, soft_wrap=True)
        sys.exit(2)
    except StreamerError as error:
        Console(stderr=True, highlight=False).print(f"streamer: {error}", markup=False, soft_wrap=True)
        sys.exit(1)
