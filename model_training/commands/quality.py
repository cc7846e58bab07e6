"""Evaluates a trained model on later examples, and prints a table."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from model_training.commands.output import console, print_json
from model_training.config.training import TrainingConfig
from model_training.errors import DataError
from streamer.features import FeatureSpec, Layout

if TYPE_CHECKING:
    from model_training.calibration import Calibration
    from model_training.data.manifest import Manifest
    from model_training.data.training_data import TrainingData
    from model_training.early_stopping.validation import Predict
    from model_training.evaluation.metrics import Quality
    from model_training.lineage.lineage import Data
    from model_training.models.model import Model


def check_evaluable(data: "TrainingData") -> None:
    """Rejects data whose model could not be evaluated, before hours of training.

    Raises:
        DataError: clicks or non-clicks are missing in the training examples, or in a non-empty holdout.
    """
    data.manifest.check_classes("examples")
    later = data.holdout
    if later.examples and later.clicks in (0, later.examples):
        raise DataError(f"{later.clicks} clicks among {later.examples} evaluation examples: both classes are needed")


def print_quality(
    model: "Model",
    config: TrainingConfig,
    spec: FeatureSpec,
    data: "TrainingData",
    *,
    baseline: bool = False,
    predictions: Path | None = None,
    calibration: "Calibration | None" = None,
) -> "dict[str, Quality]":
    """Prints and returns the quality of `model` on the holdout of `data`, by name of model.

    Without a holdout it is empty.

    Args:
        baseline: also evaluate a logistic regression without crosses.
        predictions: file for the labels and scores.
        calibration: also evaluate the scores that it gives.

    Raises:
        DataError: clicks or non-clicks are missing, or the file cannot be written.
    """
    from model_training.evaluation.baseline import LogisticBaseline  # noqa: PLC0415
    from model_training.evaluation.metrics import evaluate, recalibrated  # noqa: PLC0415
    from model_training.evaluation.predictions import write_predictions  # noqa: PLC0415
    from model_training.training.prediction import predictor  # noqa: PLC0415

    if not data.holdout.examples:
        return {}
    models: dict[str, Predict] = {config.model.kind: predictor(model, spec)}
    if baseline:
        models["baseline"] = LogisticBaseline(Layout(spec)).fit(data.training()).predict
    labels, scores, weights = data.holdout.scored(models)
    scores = {name: recalibrated(ctr, data.holdout_sampling_rate) for name, ctr in scores.items()}
    if calibration is not None:
        scores[f"{config.model.kind}, calibrated"] = calibration.scores(scores[config.model.kind])
    qualities = {name: evaluate(labels, ctr, weights) for name, ctr in scores.items()}
    console.print(_table(qualities))
    if predictions is not None:
        write_predictions(predictions, labels, scores)
    return qualities


def print_trained(
    manifest: "Manifest",
    spec: FeatureSpec,
    data: "Data",
    quality: "Mapping[str, Quality]",
    exported: Path | None,
    *,
    as_json: bool,
) -> None:
    """Prints the outcome of a training if it is wanted as JSON."""
    if not as_json:
        return
    content = {
        "examples": manifest.examples,
        "clicks": manifest.positives,
        "spec": {"name": spec.name, "hash": spec.hash},
        "coverage": data.coverage,
        "quality": {name: asdict(each) for name, each in quality.items()},
        "exported": None if exported is None else str(exported),
    }
    print_json(content)


def _table(qualities: dict[str, "Quality"]) -> Table:
    table = Table("model", "examples", "clicks", "AUC", "log loss", "calibration")
    for name, q in qualities.items():
        figures = (f"{q.examples:,}", f"{q.positives:,}", f"{q.auc:.4f}", f"{q.log_loss:.4f}", f"{q.calibration:.3f}")
        table.add_row(name, *figures)
    return table
