"""No command has a default file that only a checkout has."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from model_training.commands import app as model_training
from model_training.config.packaged import CONFIGS
from streamer.commands import app as streamer


def _defaults(command: Any) -> Iterator[tuple[str, Path]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from ((f"{name} {option}", path) for option, path in _defaults(inner))
    for parameter in command.params:
        if isinstance(parameter.default, Path):
            yield parameter.opts[0], parameter.default


def test_default_files_are_in_the_package() -> None:
    found = [each for app in (streamer, model_training) for each in _defaults(typer.main.get_command(app))]
    assert {"init --config", "train --config", "publish --gate"} <= {name for name, _ in found}
    assert {name: path for name, path in found if not (path.is_relative_to(CONFIGS) and path.is_file())} == {}
