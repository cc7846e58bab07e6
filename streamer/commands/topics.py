"""`streamer topics create`: creates the topics that the scorer reads and writes."""

import asyncio
import json

import typer

from streamer.commands.options import AsJson, Config
from streamer.settings import load_settings
from streamer.settings.names import printable

app = typer.Typer(help="Topics.", no_args_is_help=True)


@app.callback()
def topics() -> None:
    """Topics."""


@app.command()
def create(config: Config = None, *, as_json: AsJson = False) -> None:
    """Create missing topics, with the partitions and the retention of the `topics` settings."""
    from streamer.kafka.topics import create_topics  # noqa: PLC0415

    settings = load_settings(config)
    found = asyncio.run(create_topics(settings))
    if as_json:
        typer.echo(json.dumps({"topics": [{"topic": name, "created": is_new} for name, is_new in found]}))
        return
    for name, is_new in found:
        typer.echo(printable(f"{name}: {'created' if is_new else 'already exists'}"))
