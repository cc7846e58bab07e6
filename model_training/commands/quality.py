"""Evaluates a trained model on later examples, and prints a table."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from model_training.commands.output import console
from model_training.config.training import TrainingConfig
from model_training.errors import DataError

if TYPE_CHECKING:
    from model_training.calibration import Calibration
    from model_training.data.training_data import TrainingData
    from model_training.evaluation.metrics import Quality
    from model_training.models.model import Model
    from streamer.features import FeatureSpec
    from streamer.types import F32


def check_evaluable(data: "TrainingData") -> None:
    """Rejects data whose model could not be evaluated, before hours of training.

    Raises:
        DataError: clicks or non-clicks are missing in the training examples, or in a non-empty holdout.
    """
    data.manifest.check_classes("examples")
    labels = data.holdout.labels
    if len(labels) and (clicks := int(labels.sum())) in (0, len(labels)):
        raise DataError(f"{clicks} clicks among {len(labels)} evaluation examples: both classes are needed")


def print_quality(
    model: "Model",
    config: TrainingConfig,
    spec: "FeatureSpec",
    data: "TrainingData",
    *,
    baseline: bool = False,
    predictions: Path | None = None,
    calibration: "Calibration | None" = None,
) -> None:
    """Prints the quality of `model` on the holdout of `data`, if it is not empty.

    Args:
        baseline: also evaluate a logistic regression without crosses.
        predictions: file for the labels and scores.
        calibration: also evaluate the scores that it gives.

    Raises:
        DataError: clicks or non-clicks are missing, or the file cannot be written.
    """
    from model_training.evaluation.baseline import predict_baseline  # noqa: PLC0415
    from model_training.evaluation.metrics import evaluate, recalibrated  # noqa: PLC0415
    from model_training.evaluation.predictions import write_predictions  # noqa: PLC0415
    from model_training.training.prediction import predict  # noqa: PLC0415

    unseen = data.holdout
    if not len(unseen.labels):
        return
    scores: dict[str, F32] = {config.model.kind: predict(model, spec, unseen.ids, unseen.floats)}
    if baseline:
        scores["baseline"] = predict_baseline(spec, data.training(), unseen)
    scores = {name: recalibrated(ctr, data.holdout_sampling_rate) for name, ctr in scores.items()}
    if calibration is not None:
        scores[f"{config.model.kind}, calibrated"] = calibration.scores(scores[config.model.kind])
    console.print(_table({name: evaluate(unseen.labels, ctr) for name, ctr in scores.items()}))
    if predictions is not None:
        write_predictions(predictions, unseen, scores)


def _table(qualities: dict[str, "Quality"]) -> Table:
    table = Table("model", "examples", "clicks", "AUC", "log loss", "calibration")
    for name, q in qualities.items():
        figures = (f"{q.examples:,}", f"{q.positives:,}", f"{q.auc:.4f}", f"{q.log_loss:.4f}", f"{q.calibration:.3f}")
        table.add_row(name, *figures)
    return table
