"""Writes labels and scores to a file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from model_training.data.examples import Examples
from model_training.errors import DataError
from streamer.types import F32


def write_predictions(path: Path, examples: Examples, scores: Mapping[str, F32]) -> None:
    """Writes `labels` int8 [n] and each model's scores, float32 [n] by its name, as a NumPy archive (`.npz`).

    Raises:
        DataError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, labels=examples.labels, **scores)  # type: ignore[arg-type]
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error
