"""Output that the commands share: errors, and the description of an export."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import orjson
import typer
from rich.console import Console
from typer.core import TyperCommand

from model_training.errors import TrainingError
from model_training.urls import check_path
from streamer.distribution import repairable

if TYPE_CHECKING:
    from model_training.calibration import Calibration
    from model_training.config.training import TrainingConfig
    from model_training.export.stored_tables import StoredTables
    from model_training.lineage.lineage import Data, Processes, Progress
    from model_training.models.model import Model
    from model_training.training.source import Source
    from streamer.features import FeatureSpec

console = Console(highlight=False)
_errors = Console(stderr=True, highlight=False, soft_wrap=True)
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object, for programs; all other output goes to standard error.")
]


class Command(TyperCommand):
    """A command whose errors are one line each; it rejects each URL that it cannot use.

    With the option `AsJson`, `console` writes to standard error, and only `print_json` to standard output.
    """

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Runs the command; the base class gives this name."""
        with fail_clearly():
            for parameter in self.params:
                value = ctx.params.get(parameter.name or "")
                for each in value if isinstance(value, list | tuple) else [value]:
                    check_path(parameter.opts[0], each)
            console.stderr = bool(ctx.params.get("as_json"))
            return super().invoke(ctx)


@contextmanager
def fail_clearly() -> Iterator[None]:
    """Converts an error that a person can repair to one line and an exit status."""
    try:
        yield
    except TrainingError as error:
        _fail(str(error), error.status)
    except (ImportError, OSError) as error:
        found = repairable(error)
        if found is None:
            raise
        _fail(*found)


def _fail(message: str, status: int) -> NoReturn:
    _errors.print(f"error: {message}", markup=False)
    raise typer.Exit(status) from None


def print_json(content: object) -> None:
    """Prints the object of a command with the option `AsJson`."""
    typer.echo(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode())


def export_described(
    model: "Model",
    spec: "FeatureSpec",
    config: "TrainingConfig",
    base_path: Path,
    version: int,
    *,
    started: datetime,
    data: "Data | None" = None,
    progress: "Progress | None" = None,
    processes: "Processes | None" = None,
    source: "Source | None" = None,
    tables: "StoredTables | None" = None,
    calibration: "Calibration | None" = None,
) -> Path:
    """Exports a version with the record of its run, prints its size, and returns its folder.

    Args:
        started: the start of the run, in UTC.
        data, progress, processes: of the run; None for a model that was not trained.
        source: the model with which the run began.
        tables, calibration: see `export`.

    Raises:
        ExportError: the version cannot be written.
    """
    from model_training.export.saved_model import export, model_size  # noqa: PLC0415 - loads TensorFlow
    from model_training.lineage.lineage import BeginsWith  # noqa: PLC0415
    from model_training.lineage.record import record  # noqa: PLC0415

    lineage = record(
        config,
        spec,
        started,
        data=data,
        progress=progress,
        processes=processes,
        begins_with=None if source is None else BeginsWith(**source.identity),
    )
    compute = config.export.compute
    path = export(
        model,
        spec,
        base_path,
        version,
        negative_sampling_rate=1.0 if data is None else data.negative_sampling_rate,
        compute=compute,
        tables=tables,
        calibration=calibration,
        lineage=lineage,
    )
    size = model_size(model, path, tables)
    console.print(
        f"{path}: {size.dense_parameters:,} dense, {size.embedding_parameters:,} embedding and"
        f" {size.wide_parameters:,} wide parameters, {size.file_bytes / 1e6:.1f} MB"
        f"{'' if compute == 'float32' else f', dense layers in {compute}'}"
        f"{'' if calibration is None else f', calibrated ({calibration.map.kind})'}"
    )
    return path
