"""`streamer-sandbox`: the outside world, piece by piece, as `docker-compose.yml` runs it."""

import signal
import subprocess
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    help="Synthetic bidders and their models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_console = Console(highlight=False)
_SEED = 7


@app.command()
def train(
    models: Annotated[Path, typer.Option(help="Base path of the model's versions.")],
    requests: Annotated[int, typer.Option(help="Requests of the click log, 4 ads each.")] = 50_000,
    spec: Annotated[Path, typer.Option(help="Feature spec.")] = Path("configs/features/reference.yaml"),
    config: Annotated[Path, typer.Option(help="Model config.")] = Path("configs/models/wide_deep.yaml"),
) -> None:
    """Draw a click log from the known truth, train on it, and export it as version 1 unless there is a version."""
    if any(found.name.isdigit() for found in models.glob("*")):
        _console.print(f"{models} has a version already; nothing to do", markup=False)
        return
    # Imported here, so that --help need not wait for numpy and Kafka clients.
    from sandbox.world import World  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as scratch:
        log = World(seed=_SEED).draw_log(Path(scratch) / "clicks.jsonl", requests)
        command = [sys.executable, "-m", "model_training", "train", "--log", str(log.path), "--spec", str(spec)]
        status = subprocess.run([*command, "--config", str(config), "--export-to", str(models)], check=False).returncode
    raise typer.Exit(status)


@app.command()
def traffic(
    bootstrap_servers: Annotated[str, typer.Option(help="Kafka.")] = "localhost:9092",
    topic: Annotated[str, typer.Option(help="Topic of the requests.")] = "bid-requests",
    rate: Annotated[float, typer.Option(help="Requests a second.")] = 50.0,
    seconds: Annotated[float, typer.Option(help="How long; 0: until SIGTERM.")] = 0.0,
    candidates: Annotated[int, typer.Option(help="Candidates a request.")] = 300,
) -> None:
    """Send bid requests, open loop; answers are nobody's business here."""
    from sandbox.ledger import Ledger  # noqa: PLC0415
    from sandbox.requests import RequestFactory  # noqa: PLC0415
    from sandbox.traffic import Traffic  # noqa: PLC0415
    from sandbox.world import World  # noqa: PLC0415

    factory = RequestFactory(World(seed=_SEED), candidates=candidates)
    sender = Traffic(bootstrap_servers, topic, factory, rate=rate, seconds=seconds, ledger=Ledger())

    def stop(_: int, __: FrameType | None) -> None:
        sender.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    _console.print(f"sending {rate:g} requests/s to {topic} at {bootstrap_servers}", markup=False)
    sender.start()
    while not sender.join(10.0):
        report = sender.report()
        _console.print(f"{report.sent} sent, {report.refused} refused {report.errors or ''}", markup=False)


class Dataset(StrEnum):
    """What can be replayed."""

    AVAZU = "avazu"
    BIDREQ = "bidreq"


@app.command()
def replay(
    dataset: Annotated[
        Dataset,
        typer.Argument(help="avazu: clicks, scored as offline? bidreq: raw OpenRTB and AdX requests, all settled?"),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data sets; by default what CTR_DATA names, or ../shared/data.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the model and the logs.")] = Path("build/replay"),
) -> None:
    """Send public data through a broker, a model server and a scorer of its own, and check every answer.

    Exit status: 0 all is well, 1 something was lost or differs, 2 the data are not there or a step failed.
    """
    from sandbox.broker import BrokerError  # noqa: PLC0415
    from sandbox.model_server.process import ModelServerError  # noqa: PLC0415
    from sandbox.replay.data import MissingDataError  # noqa: PLC0415
    from sandbox.replay.run import ReplayError, replay_avazu, replay_bid_requests  # noqa: PLC0415
    from sandbox.replay.stream import StreamError  # noqa: PLC0415
    from sandbox.scorer import ScorerError  # noqa: PLC0415

    run = replay_avazu if dataset is Dataset.AVAZU else replay_bid_requests
    try:
        report = run(_console, out / dataset.value, data)
    except (MissingDataError, ReplayError, StreamError, BrokerError, ModelServerError, ScorerError) as error:
        _console.print(f"replay: {error}", style="red", markup=False)
        raise typer.Exit(2) from None
    if not report.healthy:
        _console.print("NOT WELL: see above", style="red bold")
        raise typer.Exit(1)
    _console.print("all is well", style="green")


def main() -> None:
    """The console command."""
    app()
