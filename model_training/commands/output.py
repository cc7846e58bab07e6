"""Output that the commands share: errors, and the description of an export."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from typer.core import TyperCommand

from model_training.errors import TrainingError
from model_training.urls import check_path

if TYPE_CHECKING:
    from model_training.calibration import Calibration
    from model_training.config.training import Compute
    from model_training.export.stored_tables import StoredTables
    from model_training.lineage.lineage import Lineage
    from model_training.models.model import Model
    from streamer.features import FeatureSpec

console = Console(highlight=False)
_errors = Console(stderr=True, highlight=False, soft_wrap=True)


class Command(TyperCommand):
    """A command that rejects each URL that it cannot use, before it begins."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Runs the command; the base class gives this name."""
        with fail_clearly():
            for parameter in self.params:
                value = ctx.params.get(parameter.name or "")
                for each in value if isinstance(value, list | tuple) else [value]:
                    check_path(parameter.opts[0], each)
        return super().invoke(ctx)


@contextmanager
def fail_clearly() -> Iterator[None]:
    """Converts a `TrainingError` to one line on standard error and its exit status."""
    try:
        yield
    except TrainingError as error:
        _errors.print(f"error: {error}", markup=False)
        raise typer.Exit(error.status) from None


def export_described(
    model: "Model",
    spec: "FeatureSpec",
    base_path: Path,
    version: int,
    *,
    negative_sampling_rate: float = 1.0,
    compute: "Compute",
    tables: "StoredTables | None" = None,
    calibration: "Calibration | None" = None,
    lineage: "Lineage | None" = None,
) -> None:
    """Exports a version and prints its size; the arguments are those of `export`.

    Raises:
        ExportError: the version cannot be written.
    """
    from model_training.export.saved_model import export, model_size  # noqa: PLC0415 - loads TensorFlow

    path = export(
        model,
        spec,
        base_path,
        version,
        negative_sampling_rate=negative_sampling_rate,
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
