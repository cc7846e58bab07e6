"""`streamer model`: which version serves, asked and told through the operations port of a running worker."""

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

app = typer.Typer(no_args_is_help=True, help="See and choose the model version of a running worker.")
_TIMEOUT_S = 60.0

Version = Annotated[int, typer.Argument(min=1)]
VersionOrLabel = Annotated[
    str, typer.Argument(metavar="VERSION|LABEL", help="A number, or a label that is followed wherever it leads.")
]
Share = Annotated[float, typer.Argument(min=0, max=1, help="Share of the users, told by their records' keys.")]
Config = Annotated[Path | None, typer.Option(help="Settings (YAML); they name the operations port.")]
Model = Annotated[str | None, typer.Option(help="Name of the model; by default the first of the worker's.")]
Ops = Annotated[str | None, typer.Option(help="Address of the operations port; by default the settings' one.")]


@app.command("list")
def show(config: Config = None, ops: Ops = None) -> None:
    """Show of each model the version that serves, the one before it, and what was pinned or rolled back."""
    _ask("GET", "/model", config, ops)


@app.command()
def pin(version: Version, model: Model = None, config: Config = None, ops: Ops = None) -> None:
    """Serve this version, and no newer one, until `unpin`."""
    _ask("POST", f"/model/pin/{version}", config, ops, model)


@app.command()
def canary(version: VersionOrLabel, share: Share, model: Model = None, config: Config = None, ops: Ops = None) -> None:
    """Serve this version to a share of the users, until `pin` or `unpin`."""
    _ask("POST", f"/model/canary/{urllib.parse.quote(version, safe='')}/{share:f}", config, ops, model)


@app.command()
def shadow(version: Version, share: Share, model: Model = None, config: Config = None, ops: Ops = None) -> None:
    """Have this version score a share of the users too, on the shadow topic; a share of 0 ends it."""
    _ask("POST", f"/model/shadow/{version}/{share:f}", config, ops, model)


@app.command()
def unpin(model: Model = None, config: Config = None, ops: Ops = None) -> None:
    """Serve the newest version (or the labelled one) again, end a canary; what was rolled back gets another chance."""
    _ask("POST", "/model/unpin", config, ops, model)


@app.command()
def rollback(model: Model = None, config: Config = None, ops: Ops = None) -> None:
    """Serve the version before this one again, at once."""
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
        raise StreamerError(f"{address} refused: {error.read().decode(errors='replace').strip()}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # something else listens, or the address is none
        raise StreamerError(f"no worker's operations port at {address}: {error}") from error
    for described in found:
        # A supervisor answers with a list for each of its workers.
        for part in described["models"] if "worker" in described else [described]:
            if "worker" in described:
                typer.echo(f"worker: {described['worker']}")
            for name, value in part.items():
                typer.echo(f"{name.replace('_', ' ')}: {value}")
