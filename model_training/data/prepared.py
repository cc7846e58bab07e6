"""A folder of training data that `model-training prepare` made, and its manifest."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from model_training.data.manifest import MANIFEST, Manifest, load_manifest, read_manifest
from model_training.errors import DataError

VALIDATION = "validation"
"""Folder, inside that of a log's records, for the examples of early stopping."""
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class SplitManifest:
    """One split: its records, and the times of its first and last row in ms since 1970."""

    records: Manifest
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """The result of one preparation.

    Attributes:
        config: the config of the preparation.
        rows: rows read; each is in a split, `dropped` by a reason, or one of the `sampled_out` non-clicks.
        counts: other counts by name, such as clicks that came too late.
        validation_from_ms, test_from_ms: the times at which the log was cut; each is the start of its split, None for
            a split that was not wanted.
        splits: the splits that have rows, by name.
    """

    config: Mapping[str, Any]
    rows: int
    dropped: Mapping[str, int]
    sampled_out: int
    counts: Mapping[str, int]
    validation_from_ms: int | None
    test_from_ms: int | None
    splits: Mapping[Split, SplitManifest]

    def split(self, name: Split) -> Manifest:
        """The records of a split.

        Raises:
            DataError: there is no such split.
        """
        if name not in self.splits:
            raise DataError(f"the prepared data has no split {name!r}; it has {', '.join(self.splits)}")
        return self.splits[name].records


def read_prepared(directory: Path) -> Prepared:
    """Reads the manifest of a folder that `model-training prepare` made.

    Raises:
        DataError: there is no manifest, or it is not one of prepared data.
    """
    content = load_manifest(directory)
    try:
        splits = {
            name: SplitManifest(**{**split, "records": Manifest.from_json(split["records"], directory / MANIFEST)})
            for name, split in content["splits"].items()
        }
        return Prepared(**{**content, "splits": splits})
    except (TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{directory / MANIFEST}: not a manifest of prepared data: {error}") from error


def is_prepared(directory: Path) -> bool:
    """Whether `model-training prepare` made a folder of records.

    Raises:
        DataError: it is not a folder of records.
    """
    return "splits" in load_manifest(directory)


def read_training_records(directory: Path) -> Manifest:
    """The training records of a folder: all, or the split `train` of prepared data.

    Raises:
        DataError: it is not a folder of records.
    """
    return read_prepared(directory).split("train") if is_prepared(directory) else read_manifest(directory)


def validation_records(directory: Path, section: str = "early_stopping") -> tuple[Path, Manifest]:
    """Folder and manifest of the validation examples of some training records.

    Args:
        section: the section of the config that needs them, for the message.

    Raises:
        DataError: there are none, or their manifest cannot be read.
    """
    if is_prepared(directory):
        folder, splits = directory, read_prepared(directory).splits
        if VALIDATION in splits:
            return folder, splits["validation"].records
    elif ((folder := directory / VALIDATION) / MANIFEST).exists():
        return folder, read_manifest(folder)
    raise DataError(f"{directory}: {section} needs validation examples, and there are none")
