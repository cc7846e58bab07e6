"""Compares the variables of two versions or models, bit by bit."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from model_training.errors import ExportError
from model_training.export.calibration import FILE as CALIBRATION
from model_training.export.stored_tables import OBJECT_GRAPH

NO_WEIGHTS = (OBJECT_GRAPH, "save_counter")
"""Beginnings of names in a version's variables that are none of the model."""
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def differing_variables(first: Path, second: Path) -> dict[str, str]:
    """The variables of two versions that are not equal bit by bit: name → how they differ.

    A calibration, which has no variables, counts as one.

    Raises:
        ExportError: the variables of a version cannot be read.
    """
    one, two = _reader(first), _reader(second)
    found = {}
    shapes = [reader.get_variable_to_shape_map() for reader in (one, two)]
    for key in sorted({*shapes[0], *shapes[1]}):
        name = key.removesuffix(_VALUE)
        if key.startswith(NO_WEIGHTS):
            continue
        if key not in shapes[0] or key not in shapes[1]:
            found[name] = f"only in {first if key in shapes[0] else second}"
        elif shapes[0][key] != shapes[1][key]:
            found[name] = f"shapes {shapes[0][key]} and {shapes[1][key]}"
        elif (a := np.asarray(one.get_tensor(key))).tobytes() != (b := np.asarray(two.get_tensor(key))).tobytes():
            found[name] = _difference(a, b)
    maps = [
        (version / CALIBRATION).read_bytes() if (version / CALIBRATION).exists() else b"" for version in (first, second)
    ]
    if maps[0] != maps[1]:
        found["calibration"] = "the maps of the scores differ"
    return found


def _reader(version: Path) -> Any:
    try:
        return tf.train.load_checkpoint(str(version / "variables" / "variables"))
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise ExportError(f"{version}: its variables cannot be read: {str(error).splitlines()[0]}") from error


def _difference(a: np.ndarray, b: np.ndarray) -> str:
    if not np.issubdtype(a.dtype, np.number):
        return "the values differ"
    with np.errstate(invalid="ignore"):
        apart = np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0)
    return f"{np.count_nonzero(a != b):,} of {a.size:,} values, by up to {apart:.3g}"
