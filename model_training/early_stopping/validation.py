"""The validation examples of early stopping, and the metric of a model on them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model_training.config.training import TrainingConfig
from model_training.data.examples import Stream
from model_training.data.manifest import Manifest, without_damaged
from model_training.data.prepared import validation_records
from model_training.data.training_data import stored
from model_training.evaluation.metrics import evaluate, recalibrated
from streamer.features import FeatureSpec
from streamer.types import F32, I32

Predict = Callable[[I32, F32], F32]
"""A function from flat rows, ids and floats, to click probabilities, float32 [n]."""


@dataclass(frozen=True, slots=True)
class Validation:
    """Examples by which a run evaluates its model; read again for each evaluation.

    Attributes:
        sampling_rate: share of the non-clicks that the training records kept, relative to `examples`.
        every: number of training examples between two evaluations.
    """

    examples: Stream
    sampling_rate: float
    every: int

    def value(self, predict: Predict, metric: Literal["auc", "log_loss"]) -> float:
        """The metric of the scores that the exported model would return.

        Raises:
            DataError: a score is not in [0, 1].
        """
        labels, scores, weights = self.examples.scored({"model": predict})
        quality = evaluate(labels, recalibrated(scores["model"], self.sampling_rate), weights)
        return quality.auc if metric == "auc" else quality.log_loss


def read_validation(
    directory: Path, manifest: Manifest, spec: FeatureSpec, config: TrainingConfig
) -> Validation | None:
    """The validation examples of a folder of training records; None without early stopping.

    Args:
        manifest: the manifest of the folder's training records.

    Raises:
        DataError: there are no validation examples, or they are damaged, of one class, or of another spec.
    """
    settings = config.early_stopping
    if settings is None:
        return None
    examples, rate = validation_examples(directory, manifest, spec, config, "early_stopping")
    return Validation(examples, rate, settings.every_examples or manifest.examples)


def validation_examples(
    directory: Path, manifest: Manifest, spec: FeatureSpec, config: TrainingConfig, section: str
) -> tuple[Stream, float]:
    """The validation examples of a folder of training records.

    Args:
        manifest: the manifest of the folder's training records.
        section: the section of the config that needs them, for the message.

    Returns:
        The examples, and the share of the non-clicks that the training records kept, relative to them.

    Raises:
        DataError: there are none, or they are damaged, of one class, or of another spec.
    """
    folder, whole = validation_records(directory, section)
    whole.check(spec)
    found, _ = without_damaged(folder, whole, max_lost_share=config.max_lost_share)
    found.check_classes(f"validation examples of {section}")
    return stored(folder, found), manifest.negative_sampling_rate / found.negative_sampling_rate
