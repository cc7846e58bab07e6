"""`python -m sandbox`: single parts of the outside world, as `docker-compose.yml` runs them."""

import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from model_training.export.versions import found_in

app = typer.Typer(
    name="python -m sandbox",
    help="Synthetic bidders, their models, and replays of public data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_console = Console(highlight=False)
_SEED = 7


@app.command()
def train(
    models: Annotated[Path, typer.Option(help="Base path of the versions of the model.")],
    requests: Annotated[int, typer.Option(help="Requests of the click log, with 4 ads each.")] = 50_000,
    spec: Annotated[Path, typer.Option(help="Feature spec.")] = Path("configs/features/reference.yaml"),
    config: Annotated[Path, typer.Option(help="Model config.")] = Path("configs/models/wide_deep.yaml"),
) -> None:
    """Draw a synthetic click log, train on it, and export version 1 unless a version exists."""
    if found_in(models):
        _console.print(f"{models} already has a version; nothing to do", markup=False)
        return
    # Imported here: numpy and the Kafka client would delay --help.
    from sandbox.world.world import World  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as scratch:
        log = World(seed=_SEED).draw_log(Path(scratch) / "clicks.jsonl", requests)
        command = [sys.executable, "-m", "model_training", "train", "--log", str(log.path), "--spec", str(spec)]
        status = subprocess.run([*command, "--config", str(config), "--export-to", str(models)], check=False).returncode
    raise typer.Exit(status)


@app.command()
def sample(
    to: Annotated[Path, typer.Option(help="Folder of the files.")],
    requests: Annotated[int, typer.Option(min=1, help="Requests of the sample, with 20 ads each.")] = 1_000,
    logged: Annotated[int, typer.Option(min=1, help="Requests of the click log, with 4 ads each.")] = 10_000,
) -> None:
    """Write requests and a click log of a bidder with a JSON of its own, for the tutorial."""
    from sandbox.world.own_shape import write_sample  # noqa: PLC0415

    try:
        write_sample(to, seed=_SEED, requests=requests, logged=logged)
    except OSError as error:
        _console.print(f"sample: {error.filename}: {error.strerror}", style="red", markup=False)
        raise typer.Exit(2) from None
    _console.print(f"{to}: requests.jsonl, request.json, clicks.jsonl", markup=False)


class By(StrEnum):
    """The forms of candidates, as `CandidatesBy`."""

    ROWS = "rows"
    COLUMNS = "columns"
    ID = "id"


@app.command()
def traffic(
    *,
    bootstrap_servers: Annotated[str, typer.Option(help="Addresses of Kafka.")] = "localhost:9092",
    topic: Annotated[str, typer.Option(help="Topic of the requests.")] = "bid-requests",
    rate: Annotated[float, typer.Option(help="Requests per second.")] = 50.0,
    seconds: Annotated[float, typer.Option(help="Duration; 0: until SIGTERM.")] = 0.0,
    candidates: Annotated[int, typer.Option(help="Candidates per request.")] = 300,
    candidates_by: Annotated[
        By, typer.Option(help="Form of the candidates; id: their features are in --ads-topic.", envvar="CANDIDATES_BY")
    ] = By.ROWS,
    ads_topic: Annotated[str, typer.Option(help="Compacted topic of the ads, for --candidates-by id.")] = "ads",
    ad_changes: Annotated[float, typer.Option(help="Ads that change per second, for --candidates-by id.")] = 50.0,
) -> None:
    """Send bid requests when they are due (open loop), without reading the answers.

    With --candidates-by id, it produces the ads first, and changes of them while it sends.
    """
    from sandbox.traffic.ad_publisher import AdPublisher  # noqa: PLC0415
    from sandbox.traffic.sender import Sender  # noqa: PLC0415
    from sandbox.traffic.sent_requests import SentRequests  # noqa: PLC0415
    from sandbox.world.ad_changes import AdChanges  # noqa: PLC0415
    from sandbox.world.bid_requests import RequestFactory  # noqa: PLC0415
    from sandbox.world.world import World  # noqa: PLC0415

    world = World(seed=_SEED)
    factory = RequestFactory(world, candidates=candidates, layout=candidates_by.value)
    sender = Sender(bootstrap_servers, topic, factory, rate=rate, seconds=seconds, sent_requests=SentRequests())

    def stop(_: int, __: FrameType | None) -> None:
        sender.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with ExitStack() as stack:
        if candidates_by is By.ID:
            ads = AdPublisher(bootstrap_servers, ads_topic, AdChanges(world), rate=ad_changes)
            _console.print(f"{ads.publish_catalogue()} ads in {ads_topic}", markup=False)
            stack.enter_context(ads)
        _console.print(f"sending {rate:g} requests/s to {topic} at {bootstrap_servers}", markup=False)
        sender.start()
        while not sender.join(10.0):
            report = sender.report()
            _console.print(f"{report.sent} sent, {report.undelivered} undelivered {report.errors or ''}", markup=False)


class Dataset(StrEnum):
    """The data sets of `replay`."""

    AVAZU = "avazu"
    BIDREQ = "bidreq"


@app.command()
def replay(
    dataset: Annotated[
        Dataset,
        typer.Argument(help="avazu: clicks, scores compared with training; bidreq: raw OpenRTB and AdX requests."),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data sets; default: CTR_DATA, or ../shared/data.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the model and the logs.")] = Path("build/replay"),
) -> None:
    """Send public data through a new broker, model server and scorer, and check every answer.

    Exit status: 0 every answer is correct, 1 an answer is missing or differs, 2 the data are missing or a step failed.
    """
    from sandbox.errors import SandboxError  # noqa: PLC0415
    from sandbox.replay.run import replay_avazu, replay_bid_requests  # noqa: PLC0415

    run = replay_avazu if dataset is Dataset.AVAZU else replay_bid_requests
    try:
        report = run(_console, out / dataset.value, data)
    except SandboxError as error:
        _console.print(f"replay: {error}", style="red", markup=False)
        raise typer.Exit(2) from None
    if not report.healthy:
        _console.print("FAILED: see above", style="red bold")
        raise typer.Exit(1)
    _console.print("Every answer is correct.", style="green")


if __name__ == "__main__":
    app()
