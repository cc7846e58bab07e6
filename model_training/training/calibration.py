"""Calibration of a trained model on the validation examples of its data."""

from pathlib import Path

from model_training.calibration import Calibration
from model_training.config.training import TrainingConfig
from model_training.data.manifest import Manifest
from model_training.early_stopping.validation import validation_examples
from model_training.evaluation.calibration import fitted
from model_training.evaluation.metrics import recalibrated
from model_training.models.model import Model
from model_training.training.prediction import predictor
from streamer.features import FeatureSpec


def fit_calibration(
    model: Model, spec: FeatureSpec, directory: Path, manifest: Manifest, config: TrainingConfig
) -> Calibration:
    """Fits the calibration that `config` names on validation examples.

    Args:
        directory: a folder of training records, with validation examples.
        manifest: the manifest of the folder's training records.

    Raises:
        DataError: there are no validation examples; they are damaged, of one class, or of another spec; or higher
            scores do not have more clicks.
    """
    examples, rate = validation_examples(directory, manifest, spec, config, "export.calibration")
    labels, scores, _ = examples.scored({"model": predictor(model, spec)})
    return fitted(config.export.calibration, labels, recalibrated(scores["model"], rate), rate)
