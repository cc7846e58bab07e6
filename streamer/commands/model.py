"""`streamer model`: shows and selects model versions, through a worker's operations port."""

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Annotated

import typer

from streamer.errors import StreamerError
from streamer.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Show and select the model versions of a running worker.")
_TIMEOUT_S = 60.0

Version = Annotated[int, typer.Argument(min=1)]
VersionOrLabel = Annotated[str, typer.Argument(metavar="VERSION|LABEL", help="Version number or version label.")]
Share = Annotated[float, typer.Argument(min=0, max=1, help="Share of the users, selected by record key.")]
Config = Annotated[Path | None, typer.Option(help="Settings (YAML) with the address of the operations port.")]
Model = Annotated[str | None, typer.Option(help="Name of the model. Default: the worker's first model.")]
Ops = Annotated[str | None, typer.Option(help="Address of the operations port. Default: the one in the settings.")]


@app.command("list")
def show(config: Config = None, ops: Ops = None) -> None:
    """Show the serving, previous, pinned and rolled-back versions of each model."""
    _ask("GET", "/model", config, ops)


@app.command()
def pin(version: Version, model: Model = None, config: Config = None, ops: Ops = None) -> None:
    """Pin this version: it serves, and no newer one, until `unpin`."""
    _ask("POST", f"/model/pin/{version}", config, ops, model)


@app.command()
def canary(version: VersionOrLabel, share: Share, model: Model = None, config: Config = None, ops: Ops = None) -> None:
    """Start a canary: this version serves a share of the users, until `pin` or `unpin`."""
    _ask("POST", f"/model/canary/{urllib.parse.quote(version, safe='')}/{share:f}", config, ops, model)


@app.command()
def shadow(version: Version, share: Share, model: Model = None, config: Config = None, ops: Ops = None) -> None:
    """Make this version the shadow version for a share of the users. A share of 0 ends it."""
    _ask("POST", f"/model/shadow/{version}/{share:f}", config, ops, model)


@app.command()
def unpin(model: Model = None, config: Config = None, ops: Ops = None) -> None:
    """End a pin or a canary: the newest or labelled version serves.

    A version that was rolled back is tried again.
    """
    _ask("POST", "/model/unpin", config, ops, model)


@app.command()
def rollback(model: Model = None, config: Config = None, ops: Ops = None) -> None:
    """Roll back to the previous version at once."""
    _ask("POST", "/model/rollback", config, ops, model)


def _ask(method: str, path: str, config: Path | None, ops: str | None, model: str | None = None) -> None:
    query = "" if model is None else "?" + urllib.parse.urlencode({"model": model})
    settings = load_settings(config).ops
    address = ops or f"{settings.host}:{settings.port}"
    headers = {} if settings.token is None else {"Authorization": f"Bearer {settings.token.get_secret_value()}"}
    request = urllib.request.Request(f"http://{address}{path}{query}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
            found = json.load(response)
    except urllib.error.HTTPError as error:
        raise StreamerError(f"{address} rejected it: {error.read().decode(errors='replace').strip()}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # another program listens, or no such address
        raise StreamerError(f"no worker's operations port at {address}: {error}") from error
    for described in found:
        # A supervisor replies with a list for each of its workers.
        for part in described["models"] if "worker" in described else [described]:
            if "worker" in described:
                typer.echo(f"worker: {described['worker']}")
            for name, value in part.items():
                typer.echo(f"{name.replace('_', ' ')}: {value}")
