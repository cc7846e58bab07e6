"""`streamer spec init`: writes a spec file for a live model, for a person to complete."""

import asyncio
from typing import Annotated

import typer

from streamer.commands.options import Config
from streamer.errors import ConfigError
from streamer.settings import Settings, load_settings

app = typer.Typer(help="Feature specs.", no_args_is_help=True)


@app.callback()
def spec() -> None:
    """Feature specs."""


@app.command()
def init(
    from_model: Annotated[str, typer.Option(help="Server and model: host:8500/ctr.")],
    signature: Annotated[str, typer.Option(help="The signature that the scorer will call.")] = "serving_default",
    config: Config = None,
) -> None:
    """Print a spec file for the newest version of a live model.

    Places to complete are marked with "complete this". A spec with such a mark is rejected.
    """
    address, _, name = from_model.rpartition("/")
    if not address or not name:
        raise ConfigError(f"--from-model: expected server and model, host:8500/ctr (got {from_model!r:.200})")
    settings = load_settings(config)
    predictor = settings.predictor.model_copy(update={"addresses": (address,), "models": (name,)})
    typer.echo(asyncio.run(_template(settings.model_copy(update={"predictor": predictor}), name, signature)), nl=False)


async def _template(settings: Settings, name: str, signature: str) -> str:
    # Imported here, so that --help does not wait for gRPC.
    from streamer.commands.live_model import connected  # noqa: PLC0415
    from streamer.commands.spec_template import spec_template  # noqa: PLC0415
    from streamer.types import ModelVersion  # noqa: PLC0415

    async with connected(settings) as predictor:
        available = (await predictor.control.available(name)).somewhere
        if not available:
            raise ConfigError(f"--from-model: no version of {name!r} is AVAILABLE")
        version = ModelVersion(name, max(available))
        return spec_template(version, signature, await predictor.control.signature(version, signature))
