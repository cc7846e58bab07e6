"""`streamer model`: shows and selects model versions, through a worker's operations port."""

import http.client
import json
import urllib.parse
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from streamer.commands.options import AsJson
from streamer.errors import StreamerError
from streamer.settings import load_settings
from streamer.settings.deployment import OpsSettings
from streamer.settings.names import printable

app = typer.Typer(no_args_is_help=True, help="Show and select the model versions of a running worker.")
_TIMEOUT_S = 60.0
T = TypeVar("T")

Version = Annotated[int, typer.Argument(min=1)]
VersionOrLabel = Annotated[str, typer.Argument(metavar="VERSION|LABEL", help="Version number or version label.")]
Share = Annotated[float, typer.Argument(min=0, max=1, help="Share of the users, selected by record key.")]
Config = Annotated[Path | None, typer.Option(help="Settings (YAML) with the address of the operations port.")]
Model = Annotated[str | None, typer.Option(help="Name of the model. Default: the worker's first model.")]
Ops = Annotated[str | None, typer.Option(help="Address of the operations port. Default: the one in the settings.")]


@app.command("list")
def show(config: Config = None, ops: Ops = None, *, as_json: AsJson = False) -> None:
    """Show the serving, previous, pinned and rolled-back versions of each model."""
    if as_json:
        typer.echo(json.dumps({"workers": ask("GET", "/model", load_settings(config).ops, ops, _workers)}))
    else:
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
    for line in ask(method, f"{path}{query}", load_settings(config).ops, ops, _lines):
        typer.echo(printable(line))


def ask(method: str, path: str, settings: OpsSettings, ops: str | None, read: Callable[[Any], T]) -> T:
    """What `read` makes of the JSON of an operations port: `ops`, or that of the settings.

    Raises StreamerError if no worker answers there, or if it rejects the request.
    """
    address = ops or f"{settings.host}:{settings.port}"
    headers = {} if settings.token is None else {"Authorization": f"Bearer {settings.token.get_secret_value()}"}
    try:
        status, body = _send(address, method, path, headers)
        if status == HTTPStatus.OK:
            return read(json.loads(body))
    except (OSError, http.client.HTTPException, ValueError, TypeError, LookupError, AttributeError) as error:
        # Another program listens there, or there is no such address.
        raise StreamerError(f"no worker's operations port at {address}: {error}") from error
    raise StreamerError(f"{address} rejected it: {body.decode(errors='replace').strip()}")


def _lines(reply: Any) -> list[str]:
    """The models of a worker, or those of each worker of a supervisor."""
    lines = []
    for described in reply:
        for part in described["models"] if "worker" in described else [described]:
            if "worker" in described:
                lines.append(f"worker: {described['worker']}")
            lines += [f"{name.replace('_', ' ')}: {value}" for name, value in part.items()]
    return lines


def _workers(reply: Any) -> list[dict[str, Any]]:
    """The models of each worker; one that works alone has no number."""
    if any("worker" in described for described in reply):
        return [{"worker": each["worker"], "models": each["models"]} for each in reply]
    return [{"worker": None, "models": list(reply)}]


def _send(address: str, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Sends a request, without a proxy or a redirect: the token goes only to `address`."""
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
