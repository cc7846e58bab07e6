"""`streamer model`: which version serves, asked and told through the operations port of a running worker."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated

import typer

from streamer.errors import StreamerError
from streamer.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="See and choose the model version of a running worker.")
_TIMEOUT_S = 60.0

Config = Annotated[Path | None, typer.Option(help="Settings (YAML); they name the operations port.")]
Ops = Annotated[str | None, typer.Option(help="Address of the operations port; by default the settings' one.")]


@app.command("list")
def show(config: Config = None, ops: Ops = None) -> None:
    """Show the version that serves, the one before it, and what was pinned or rolled back."""
    _ask("GET", "/model", config, ops)


@app.command()
def pin(version: Annotated[int, typer.Argument(min=1)], config: Config = None, ops: Ops = None) -> None:
    """Serve this version, and no newer one, until `unpin`."""
    _ask("POST", f"/model/pin/{version}", config, ops)


@app.command()
def canary(
    version: Annotated[int, typer.Argument(min=1)],
    share: Annotated[float, typer.Argument(min=0, max=1, help="Share of the users, told by their records' keys.")],
    config: Config = None,
    ops: Ops = None,
) -> None:
    """Serve this version to a share of the users, until `pin` or `unpin`."""
    _ask("POST", f"/model/canary/{version}/{share:f}", config, ops)


@app.command()
def unpin(config: Config = None, ops: Ops = None) -> None:
    """Serve the newest version again, end a canary; versions that were rolled back get another chance."""
    _ask("POST", "/model/unpin", config, ops)


@app.command()
def rollback(config: Config = None, ops: Ops = None) -> None:
    """Serve the version before this one again, at once."""
    _ask("POST", "/model/rollback", config, ops)


def _ask(method: str, path: str, config: Path | None, ops: str | None) -> None:
    settings = load_settings(config).ops
    address = ops or f"{settings.host}:{settings.port}"
    request = urllib.request.Request(f"http://{address}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
            found = json.load(response)
    except urllib.error.HTTPError as error:
        raise StreamerError(f"{address} refused: {error.read().decode(errors='replace').strip()}") from error
    except OSError as error:
        raise StreamerError(f"no worker's operations port at {address}: {error}") from error
    for name, value in found.items():
        typer.echo(f"{name.replace('_', ' ')}: {value}")
