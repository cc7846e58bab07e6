"""The model with which a run begins: its place, its identity, and what it has learnt from."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from model_training.data.manifest import MANIFEST, read_manifest
from model_training.early_stopping.best_model import BestModel
from model_training.errors import ConfigError, DataError, in_a_line
from model_training.identity import read_identity
from model_training.lineage.lineage import Rows, read_lineage

FINAL = "final"
"""Folder of the final fit inside that of the run before it."""
RECORDS = "records"
"""Folder of the thinned validation records inside that of the final fit."""


@dataclass(frozen=True, slots=True)
class Source:
    """An exported version, or the result of the run of a folder of checkpoints.

    Attributes:
        checksum: of the file that lists the checksums of all variables.
        record: what the folder of a run that began with it records, as JSON; then the model itself may be gone.
    """

    path: Path
    is_version: bool
    checkpoint: str
    checksum: str
    record: Mapping[str, Any] | None = None

    @classmethod
    def recorded(cls, path: Path, folder: Path) -> "Source | None":
        """The model at `path` as a run's folder records it, if the run began with it.

        Such a run continues from its checkpoint, so the model may have changed or be gone.

        Raises:
            ConfigError: the record cannot be read, or an older version wrote it.
        """
        found = read_identity(folder)
        start = None if found is None else found.get("start")
        if not start or start.get("path") != str(path) or tf.train.latest_checkpoint(str(folder)) is None:
            return None
        return cls(path, is_version=False, checkpoint="", checksum=start["sha256"], record=found)

    @classmethod
    def find(cls, path: Path) -> "Source":
        """Finds the model at a path, without TensorFlow's runtime.

        Raises:
            ConfigError: there is none, or an older version wrote the folder.
            DataError: it cannot be read.
        """
        is_version = (path / "saved_model.pb").exists()
        if not is_version and read_identity(path) is None:
            raise ConfigError(f"--warm-start {path}: neither an exported version nor a folder of checkpoints")
        checkpoint = str(path / "variables" / "variables") if is_version else _result_of_run(path)
        try:
            checksum = hashlib.sha256(Path(f"{checkpoint}.index").read_bytes()).hexdigest()[:16]
        except OSError as error:
            raise DataError(f"{checkpoint}.index: cannot be read: {in_a_line(error)}") from error
        return cls(path, is_version, checkpoint, checksum)

    @property
    def identity(self) -> dict[str, str]:
        """Path and checksum, for the identity of a run."""
        return {"path": str(self.path), "sha256": self.checksum}

    @property
    def for_run(self) -> dict[str, Any]:
        """The arguments of `RunIdentity.of` for a run that begins with this model; raises as `seen`."""
        seen = self.seen()
        return {"start": self.identity, "seen_before": None if seen is None else [asdict(rows) for rows in seen]}

    def sampling_rate(self) -> float | None:
        """The share of the non-clicks in the model's training records; None if it is not known.

        Raises:
            ConfigError, ExportError: its record cannot be read.
        """
        if not self.is_version:
            return (read_identity(self.path) or {}).get("negative_sampling_rate")
        lineage = read_lineage(self.path)
        return None if lineage is None or lineage.data is None else lineage.data.negative_sampling_rate

    def seen(self) -> tuple[Rows, ...] | None:
        """The rows that the model and those before it have seen; None if they are not known.

        Raises:
            ConfigError, ExportError: its record cannot be read.
        """
        if self.record is not None:
            # First the run's own rows, one for each use; then those of the models before.
            parts = self.record.get("seen")
            return None if parts is None else tuple(Rows(**part) for part in parts[len(self.record["data"]) :])
        if not self.is_version:
            found = read_identity(self.path) or {}
            parts = found.get("seen")
            return None if parts is None else tuple(Rows(**part) for part in parts)
        lineage = read_lineage(self.path)
        if lineage is None:
            return None
        return () if lineage.data is None else lineage.data.all_seen


def for_run(source: Source | None) -> dict[str, Any]:
    """The arguments of `RunIdentity.of` for a run that begins with this model, if with one."""
    return {} if source is None else source.for_run


def examples_of_final_fit(best: int, examples: int, whole: int) -> int:
    """How many examples a final fit on `whole` examples learns.

    They make as many epochs as the best model had learnt of the training `examples`.
    """
    return round(best * whole / examples)


def _result_of_run(path: Path) -> str:
    """The checkpoint of a run's result: of an ended final fit, or else the best or last one."""
    final = tf.train.latest_checkpoint(str(path / FINAL))
    if final is not None and _has_ended(path / FINAL, final):
        return str(final)
    if (standing := BestModel(path).read()) is not None:
        return BestModel(path).checkpoint(standing)
    last = final or tf.train.latest_checkpoint(str(path))
    if last is None:
        raise DataError(f"{path}: holds no checkpoint")
    return str(last)


def _has_ended(folder: Path, checkpoint: str) -> bool:
    """Whether a final fit has made all its steps."""
    found = read_identity(folder)
    if found is None:
        return True
    later = folder / RECORDS
    examples = found["data"]["train"]["examples"]
    is_thinned = (later / MANIFEST).exists()
    added = read_manifest(later).examples if is_thinned else found["data"]["validation"]["examples"]
    learnt = examples_of_final_fit(found["final_fit"]["examples"], examples, examples + added)
    steps = math.ceil(learnt / found["config"]["batch_size"])
    return bool(int(checkpoint.rpartition("-")[2]) >= steps)
