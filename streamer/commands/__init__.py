"""The command `streamer`."""

import sys

import typer
from rich.console import Console

from streamer.commands import check_config, run, topics
from streamer.errors import ConfigError, StreamerError

app = typer.Typer(
    name="streamer",
    help="Scores the candidates of bid requests: Kafka in, TensorFlow Serving, Kafka out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("check-config")(check_config.check_config)
app.add_typer(topics.app, name="topics")


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
