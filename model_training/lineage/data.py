"""Describes the data of a run, and the rows on which a model is judged."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from model_training.config.training import TrainingConfig
from model_training.data.click_log import log_parts
from model_training.data.manifest import MANIFEST, Manifest, sha256_of, without_damaged
from model_training.data.prepared import (
    VALIDATION,
    Split,
    SplitManifest,
    is_prepared,
    read_prepared,
    read_training_records,
    validation_records,
)
from model_training.data.training_data import log_cuts
from model_training.errors import DataError, in_a_line
from model_training.identity import checksum
from model_training.lineage.lineage import Data, Rows

_TRAIN, _TEST = "train", "test"


def log_data(log: Path, training: Manifest, config: TrainingConfig, *, holdout: float) -> Data:
    """The data of a run on a log; each line is in the split that `split_log` gives it.

    Raises:
        DataError: the log cannot be read.
    """
    cut, end = log_cuts(log, holdout=holdout, validation_share=config.validation_share)
    parts = zip((_TRAIN, VALIDATION, _TEST), log_parts(log, [0, cut, end]), strict=True)
    return Data(
        "log",
        str(log),
        None,
        _seen(config),
        {
            name: Rows(part.sha256, part.examples, part.clicks, part.first_ms, part.last_ms)
            for name, part in parts
            if part.examples
        },
        training.negative_sampling_rate,
        holdout,
    )


def records_data(directory: Path, training: Manifest, config: TrainingConfig) -> Data:
    """The data of a run on a folder that `prepare` made, or on records alone.

    Args:
        training: the training records without lost shards.

    Raises:
        DataError: the manifest cannot be read, or the validation records are missing or damaged.
    """
    kind: Literal["prepared", "records"] = "prepared" if is_prepared(directory) else "records"
    splits: Mapping[Split, SplitManifest] = read_prepared(directory).splits if kind == "prepared" else {}
    rows: dict[str, Rows] = {name: _rows(part) for name, part in splits.items()}
    train = splits.get("train")
    times = (None, None) if train is None else (train.first_ms, train.last_ms)
    rows[_TRAIN] = Rows(checksum(training)["sha256"], training.examples, training.positives, *times)
    if config.validation_share:
        folder, later = validation_records(directory)
        later, _ = without_damaged(folder, later, max_lost_share=config.max_lost_share)
        split = splits.get("validation")
        times = (None, None) if split is None else (split.first_ms, split.last_ms)
        rows[VALIDATION] = Rows(checksum(later)["sha256"], later.examples, later.positives, *times)
    try:
        manifest = sha256_of(directory / MANIFEST)
    except OSError as error:
        raise DataError(f"{directory / MANIFEST}: cannot be read: {in_a_line(error)}") from error
    lost = tuple(shard.file for shard in read_training_records(directory).shards if shard not in training.shards)
    return Data(kind, str(directory), manifest, _seen(config), rows, training.negative_sampling_rate, None, lost)


def rows_of_prepared(directory: Path, split: Split) -> Rows:
    """A split of a folder that `prepare` made.

    Raises:
        DataError: there is no such folder or split.
    """
    prepared = read_prepared(directory)
    prepared.split(split)
    return _rows(prepared.splits[split])


def rows_of_log(log: Path, *, holdout: float) -> Rows:
    """The last share `holdout` of a log's lines.

    Raises:
        ConfigError: `holdout` is not in [0, 1).
        DataError: the log cannot be read.
    """
    _, end = log_cuts(log, holdout=holdout)
    (part,) = log_parts(log, [end])
    return Rows(part.sha256, part.examples, part.clicks, part.first_ms, part.last_ms)


def _rows(split: SplitManifest) -> Rows:
    records = split.records
    return Rows(checksum(records)["sha256"], records.examples, records.positives, split.first_ms, split.last_ms)


def _seen(config: TrainingConfig) -> tuple[str, ...]:
    """The splits that decide the scores: validation chooses the model, or calibrates it."""
    return (_TRAIN, VALIDATION) if config.validation_share else (_TRAIN,)
