"""`streamer check-config`: validates the settings, also against brokers and models."""

import asyncio
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from streamer.commands.options import Config
from streamer.commands.terminal import printable
from streamer.errors import UnreachableError
from streamer.settings import Settings, load_settings

_ATTEMPTS, _RETRY_S = 10, 1.0


def check_config(
    config: Config = None,
    live: Annotated[bool, typer.Option("--live", help="Also check the topics, the group and the models.")] = False,
) -> None:
    """Validate and show the settings. Exit status 2 if one is wrong."""
    settings = load_settings(config)
    console = Console(markup=False)
    console.print(_table(settings))
    if live:
        from streamer.commands.live_model import proxied  # noqa: PLC0415

        for line in proxied(settings):
            console.print(line, highlight=False)
        for line in asyncio.run(_ask(settings)):
            console.print(printable(line), highlight=False)
    console.print("settings are valid", highlight=False)


def _table(settings: Settings) -> Table:
    table = Table("setting", "value", box=None)
    for section, values in settings:
        assert isinstance(values, BaseModel)
        for name, value in values:
            default = type(values).model_fields[name].default
            table.add_row(f"{section}.{name}", str(value), style=None if value == default else "bold")
    return table


async def _ask(settings: Settings) -> list[str]:
    from streamer.commands.live_model import connected, served  # noqa: PLC0415
    from streamer.kafka import groups, topics  # noqa: PLC0415

    await topics.check_topics(settings, topics.required_topics(settings))
    # A new cluster creates the topic for its groups at the first query.
    for left in reversed(range(_ATTEMPTS)):
        try:
            await groups.check_group(settings)
            break
        except UnreachableError:
            if not left:
                raise
            await asyncio.sleep(_RETRY_S)
    lines = [f"brokers at {settings.kafka.bootstrap_servers}: all topics are there"]
    async with connected(settings) as predictor:
        for name in settings.predictor.models:
            serving, versions = await served(predictor.control, settings, name)
            spec, numbers = serving.encoder.spec, ", ".join(map(str, versions))
            label = settings.predictor.labels.get(name)
            led_to = "" if label is None else f"; label {label} leads to {serving.version.version}"
            lines.append(f"model {name}: versions {numbers}{led_to}; spec {spec.name}, hash {spec.hash}")
    return lines
