"""Calibration of a trained model, as `train` and `launch` make and report it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from model_training.commands.output import console
from model_training.config.training import TrainingConfig
from model_training.errors import DataError

if TYPE_CHECKING:
    from model_training.calibration import Calibration
    from model_training.data.manifest import Manifest
    from model_training.models.model import Model
    from streamer.features import FeatureSpec


def check_calibration(directory: Path, config: TrainingConfig) -> None:
    """Rejects data on which no calibration can be fitted, before hours of training.

    Raises:
        DataError: there are no validation examples, they have weights, or clicks or non-clicks are missing.
    """
    from model_training.data.prepared import validation_records  # noqa: PLC0415 - loads TensorFlow

    if config.export.calibration != "none":
        _, manifest = validation_records(directory, "export.calibration")
        manifest.check_classes("validation examples of export.calibration")
        if manifest.has_weights:
            raise DataError(f"{directory}: export.calibration: is not possible with weights; remove one of them")


def calibrate(
    trained: Callable[[], "Model"], spec: "FeatureSpec", directory: Path, manifest: "Manifest", config: TrainingConfig
) -> "Calibration | None":
    """Fits the calibration that `config` names, and prints its effect; None without one.

    Args:
        trained: returns the trained model; only a calibration needs it.

    Raises:
        DataError: see `model_training.training.calibration.fit_calibration`.
    """
    if config.export.calibration == "none":
        return None
    from model_training.training.calibration import fit_calibration  # noqa: PLC0415 - loads TensorFlow

    found = fit_calibration(trained(), spec, directory, manifest, config)
    before, after = found.before, found.after
    console.print(
        f"calibration {config.export.calibration}, fitted on {found.examples:,} validation examples with"
        f" {found.clicks:,} clicks: log loss {before.log_loss:.4f} → {after.log_loss:.4f}, sum of scores / clicks"
        f" {before.calibration:.3f} → {after.calibration:.3f}, calibration error {before.calibration_error:.4f} →"
        f" {after.calibration_error:.4f}",
        soft_wrap=True,
    )
    return found
