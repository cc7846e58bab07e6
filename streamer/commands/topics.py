"""`streamer topics create`: makes the topics that the scorer reads and writes."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streamer.settings import load_settings

app = typer.Typer(help="Topics.", no_args_is_help=True)


@app.callback()
def topics() -> None:
    """Topics."""


@app.command()
def create(
    config: Annotated[Path | None, typer.Option(help="Settings (YAML). STREAMER_… variables win over it.")] = None,
) -> None:
    """Create the topics that are missing, with partitions and retention of the `topics` settings."""
    from streamer.kafka import clients  # noqa: PLC0415

    settings = load_settings(config)
    for name, is_new in asyncio.run(clients.create_topics(settings)):
        Console().print(f"{name}: {'created' if is_new else 'already there'}", highlight=False)
