"""`streamer schema`: prints the contracts for programs in other languages."""

from pathlib import Path
from typing import Annotated

import typer

from streamer.commands.options import Config
from streamer.errors import ConfigError
from streamer.features import FeatureSpec, SpecError
from streamer.settings import load_settings


def schema(
    name: Annotated[str | None, typer.Argument(help="Such as request, answer or asyncapi. Default: all names.")] = None,
    spec: Annotated[
        Path | None, typer.Option(help="Feature spec (YAML): the request's fields and their types.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Folder to which all contracts are written, one file each.")] = None,
    config: Config = None,
) -> None:
    """Print a JSON Schema (2020-12) of a message, or the AsyncAPI document of the topics."""
    from streamer.schemas.catalogue import NAMES, contract, text_of  # noqa: PLC0415

    settings = load_settings(config)
    try:
        fields = None if spec is None else FeatureSpec.from_yaml(spec)
    except SpecError as error:
        raise ConfigError(f"--spec: {error}") from error
    if name is not None and to is not None:
        raise ConfigError("--to: writes all contracts; leave out the name")
    if name is not None and name not in NAMES:
        raise ConfigError(f"no contract {name!r:.100}; expected one of {', '.join(NAMES)}")
    if name is not None:
        typer.echo(text_of(contract(name, settings, fields)), nl=False)
    elif to is None:
        typer.echo("\n".join(NAMES))
    else:
        try:
            to.mkdir(parents=True, exist_ok=True)
            for each in NAMES:
                (to / f"{each}.json").write_text(text_of(contract(each, settings, fields)), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--to: {to} cannot be written: {error.strerror}") from error
