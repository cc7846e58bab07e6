"""Writes labels and scores to a file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from model_training.errors import DataError
from streamer.types import F32, I8


def write_predictions(path: Path, labels: I8, scores: Mapping[str, F32]) -> None:
    """Writes labels and scores as a NumPy archive (`.npz`).

    Its arrays are `labels`, int8 [n], and each model's scores, float32 [n], by the model's name.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, labels=labels, **scores)  # type: ignore[arg-type]
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error
