"""`streamer spec init`: drafts a spec file from a sample of requests or for a live model."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from streamer.commands.local_files import json_lines, named
from streamer.commands.options import Config
from streamer.errors import ConfigError
from streamer.settings import Settings, load_settings

app = typer.Typer(help="Feature specs.", no_args_is_help=True)


@app.callback()
def spec() -> None:
    """Feature specs."""


@app.command()
def init(
    from_sample: Annotated[
        Path | None, typer.Option(help="Requests, one JSON object a line. - reads standard input.")
    ] = None,
    from_model: Annotated[str | None, typer.Option(help="Server and model: host:8500/ctr.")] = None,
    signature: Annotated[
        str, typer.Option(help="With --from-model: the signature that the scorer will call.")
    ] = "serving_default",
    config: Config = None,
) -> None:
    """Print a spec file, for a person to check: from a sample of requests, or for a live model.

    From a sample, the file loads as it is; its comments say what the sample has at each path, and why a field is left
    out. For the newest version of a live model, places to complete are marked with "complete this". A spec with such a
    mark is rejected.
    """
    if (from_sample is None) == (from_model is None):
        raise ConfigError("spec init: expected either --from-sample or --from-model")
    if from_sample is not None:
        typer.echo(_draft(from_sample), nl=False)
        return
    assert from_model is not None, "one of them is given"
    address, _, name = from_model.rpartition("/")
    if not address or not name:
        raise ConfigError(f"--from-model: expected server and model, host:8500/ctr (got {from_model!r:.200})")
    settings = load_settings(config)
    predictor = settings.predictor.model_copy(update={"addresses": (address,), "models": (name,)})
    typer.echo(asyncio.run(_template(settings.model_copy(update={"predictor": predictor}), name, signature)), nl=False)


def _draft(path: Path) -> str:
    from streamer.spec_sample.draft import draft, read_sample  # noqa: PLC0415

    documents = ((each.where, each.fields) for each in json_lines(path))
    name = named(path)
    return draft(read_sample(documents, name), path.name.partition(".")[0], name)


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
