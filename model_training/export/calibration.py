"""Calibration in the graph, and its record inside a version's folder."""

from dataclasses import asdict
from pathlib import Path

import orjson
import tensorflow as tf

from model_training.calibration import Calibration, Isotonic, Platt

FILE = Path("assets.extra", "calibration.json")
"""Path of the record inside a version's folder; servers do not read it."""


def calibrated_log_odds(way: Platt | Isotonic, log_odds: tf.Tensor) -> tf.Tensor:
    """The calibrated log odds, float32 [n]."""
    if isinstance(way, Platt):
        return way.scale * log_odds + way.offset
    inputs, outputs = (tf.constant(values, tf.float32) for values in (way.inputs, way.outputs))
    inside = tf.clip_by_value(log_odds, way.inputs[0], way.inputs[-1])
    left = tf.minimum(tf.searchsorted(inputs, inside, side="right") - 1, len(way.inputs) - 2)
    slopes = (outputs[1:] - outputs[:-1]) / (inputs[1:] - inputs[:-1])
    risen = tf.gather(outputs, left) + tf.gather(slopes, left) * (inside - tf.gather(inputs, left))
    return risen + (log_odds - inside)


def write_calibration(version: Path, calibration: Calibration) -> None:
    """Writes the record of a calibration into a version's folder.

    Raises:
        OSError: the file cannot be written.
    """
    (version / FILE).parent.mkdir(parents=True, exist_ok=True)
    content = orjson.dumps(asdict(calibration), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    (version / FILE).write_bytes(content)
