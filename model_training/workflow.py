"""The way from a click log to an exported version, step by step, without a word on the screen."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model_training.baseline import LogisticBaseline
from model_training.build import build_model
from model_training.checkpoints import Checkpoints, claim
from model_training.click_log import Examples, count_lines, encode_log, read_log
from model_training.config import TrainingConfig
from model_training.early_stopping import Validation
from model_training.errors import ConfigError, DataError
from model_training.input_pipeline import batches, training_batches
from model_training.loop import Report, TrainResult
from model_training.manifest import Damage, Manifest, read_manifest, without_damaged
from model_training.models.model import Model
from model_training.preparation.prepared import Split, is_prepared, read_prepared
from model_training.records import write_records
from model_training.train import train
from streamer.features import Encoder, FeatureSpec, Layout
from streamer.types import F32

_READ_BATCH = 4096
_VALIDATION = "validation"


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Records to train on, and later examples, which no model has seen, to judge it by.

    Attributes:
        training: reads the records' examples into memory.
        holdout_sampling_rate: share of the non-clicks that the records kept of what `holdout` has; scores are corrected
            by it before they are judged.
        damage: what is missing from the records; None where nothing was looked for.
    """

    directory: Path
    manifest: Manifest
    training: Callable[[], Examples]
    holdout: Examples
    holdout_sampling_rate: float = 1.0
    damage: Damage | None = None


def open_prepared(directory: Path, split: Split, *, max_lost_share: float = 0.0) -> TrainingData:
    """What `model-training prepare` made: its records for training, and `split` to judge by.

    Raises:
        DataError: the folder is not one, has no such split, or more than `max_lost_share` of a split is damaged.
    """
    prepared = read_prepared(directory)
    manifest, damage = without_damaged(directory, prepared.split("train"), max_lost_share=max_lost_share)
    later, damage_later = without_damaged(directory, prepared.split(split), max_lost_share=max_lost_share)
    return TrainingData(
        directory,
        manifest,
        lambda: read_examples(directory, manifest),
        read_examples(directory, later),
        manifest.negative_sampling_rate,
        Damage(damage.shards + damage_later.shards, damage.examples + damage_later.examples),
    )


def split_log(
    log: Path,
    directory: Path,
    spec: FeatureSpec,
    *,
    holdout: float = 0.1,
    validation_share: float = 0.0,
    negative_sampling_rate: float = 1.0,
) -> TrainingData:
    """Encodes a log: its first lines to records in `directory`, its last share `holdout` of lines for judging.

    Args:
        validation_share: of the lines before those for judging; they become records of their own, which
            `read_validation` finds.

    Raises:
        ConfigError: `holdout` is not in [0, 1), or `negative_sampling_rate` not in (0, 1].
        DataError: the log cannot be read, is empty, or a line of it is wrong.
    """
    if not 0 < negative_sampling_rate <= 1:
        raise ConfigError(f"negative_sampling_rate {negative_sampling_rate:g}: must be in (0, 1]")
    encoder, layout = Encoder(spec), Layout(spec)
    end = _cut(log, holdout)
    cut = round(end * (1 - validation_share))
    training = joined(list(encode_log(read_log(log, last=cut), encoder)), layout.row_ids, layout.row_floats)
    manifest = write_records([training], directory, spec, negative_sampling_rate=negative_sampling_rate)
    if validation_share:
        between = encode_log(read_log(log, first=cut, last=end), encoder)
        write_records(between, directory / _VALIDATION, spec, negative_sampling_rate=negative_sampling_rate)
    return TrainingData(directory, manifest, lambda: training, later_lines(log, spec, holdout=holdout))


def later_lines(log: Path, spec: FeatureSpec, *, holdout: float) -> Examples:
    """The last share `holdout` of a log's lines, encoded.

    Raises:
        ConfigError: `holdout` is not in [0, 1).
        DataError: the log cannot be read, or a line of it is wrong.
    """
    encoder, layout = Encoder(spec), Layout(spec)
    return joined(list(encode_log(read_log(log, first=_cut(log, holdout)), encoder)), layout.row_ids, layout.row_floats)


def read_validation(
    directory: Path, manifest: Manifest, spec: FeatureSpec, config: TrainingConfig
) -> Validation | None:
    """What early stopping judges by, of a folder whose training records are those of `manifest`; None without it.

    Raises:
        DataError: there is nothing to judge by, or it is damaged, of one class, or was encoded by another spec.
    """
    settings = config.early_stopping
    if settings is None:
        return None
    if is_prepared(directory):
        folder, whole = directory, read_prepared(directory).split("validation")
    else:
        folder = directory / _VALIDATION
        if not folder.exists():
            raise DataError(f"{directory}: early_stopping needs validation examples, and there are none")
        whole = read_manifest(folder)
    whole.check(spec)
    found, _ = without_damaged(folder, whole, max_lost_share=config.max_lost_share)
    found.check_classes("validation examples of early_stopping")
    rate = manifest.negative_sampling_rate / found.negative_sampling_rate
    return Validation(read_examples(folder, found), rate, settings.every_examples or manifest.examples)


def prepared_split(directory: Path, split: Split, spec: FeatureSpec) -> Examples:
    """The examples of one split of what `model-training prepare` made.

    Raises:
        DataError: it is no such folder, has no such split, is damaged, or was encoded by another spec.
    """
    manifest, _ = without_damaged(directory, read_prepared(directory).split(split), max_lost_share=0.0)
    manifest.check(spec)
    return read_examples(directory, manifest)


def _cut(log: Path, holdout: float) -> int:
    if not 0 <= holdout < 1:
        raise ConfigError(f"holdout {holdout}: must be in [0, 1)")
    return round(count_lines(log) * (1 - holdout))


def read_examples(directory: Path, manifest: Manifest) -> Examples:
    """All examples of a set of shards, in memory, in the order of the shards' interleaving."""
    parts = [
        Examples(ids.numpy(), floats.numpy(), labels.numpy().astype(np.int8))
        for ids, floats, labels in batches(directory, manifest, _READ_BATCH)
    ]
    return joined(parts, manifest.row_ids, manifest.row_floats)


def train_records(
    directory: Path,
    manifest: Manifest,
    spec: FeatureSpec,
    config: TrainingConfig,
    report: Report | None = None,
    *,
    checkpoints: Path | None = None,
) -> tuple[Model, TrainResult]:
    """Builds the model that `config` names and trains it on records.

    Args:
        checkpoints: folder to keep the run in; one that has checkpoints already goes on from the last one.

    Raises:
        ConfigError, DataError: the records do not fit the spec, or the spec the model.
        ExportError: a checkpoint cannot be written.
    """
    manifest.check(spec)
    manifest.check_classes("examples")
    validation = read_validation(directory, manifest, spec, config)
    model = build_model(config, spec)
    with ExitStack() as stack:
        kept = None
        if checkpoints is not None or validation is not None:
            # Of a run that is not kept the best model is, until its end.
            folder = checkpoints or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            claim(folder, config, spec, shards=None)
            kept = Checkpoints(folder, every_seconds=config.distributed.checkpoint_seconds, now=time.monotonic())
        done = -(-kept.position.examples // config.batch_size) if kept is not None else 0
        data = training_batches(directory, manifest, config, epochs=config.epochs, skip=done)
        return model, train(model, spec, data, config, report, checkpoints=kept, validation=validation)


def predict_baseline(spec: FeatureSpec, training: Examples, examples: Examples) -> F32:
    """Click probabilities of a logistic regression without crosses that was fitted on `training`; float32 [n].

    Raises:
        DataError: the labels of `training` are all equal.
    """
    return LogisticBaseline(Layout(spec)).fit(training).predict(examples.ids, examples.floats)


def write_predictions(path: Path, examples: Examples, scores: Mapping[str, F32]) -> None:
    """Writes `labels` int8 [n] and each model's scores, float32 [n] by its name, as a NumPy archive (`.npz`).

    Raises:
        DataError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, labels=examples.labels, **scores)  # type: ignore[arg-type]
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


def joined(parts: Sequence[Examples], row_ids: int, row_floats: int) -> Examples:
    """All parts, one after the other; without any, no rows of the widths given."""
    if not parts:
        return Examples(
            np.empty((0, row_ids), np.int32),
            np.empty((0, row_floats), np.float32),
            np.empty(0, np.int8),
        )
    return Examples(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.floats for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )
