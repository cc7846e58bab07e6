"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]
Config = Annotated[Path | None, typer.Option(help="Settings (YAML). STREAMER_… variables override it.")]
