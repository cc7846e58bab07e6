"""The signatures of an exported model: `serving_default`, `score`, `feature_spec…`."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from model_training.calibration import Calibration
from model_training.config.training import Compute
from model_training.export.calibration import calibrated_log_odds
from model_training.models.model import Model
from model_training.parts.deep import deep_parts
from model_training.parts.inputs import ModelInputs, flat_inputs
from streamer.features import GROUPS, FeatureSpec, Layout

Specs = dict[str, tf.TensorSpec]


def flat_specs(layout: Layout) -> Specs:
    """Inputs of `serving_default`: whole rows. Inputs without columns are omitted."""
    return _specs({"ids": layout.row_ids}, {"floats": layout.row_floats})


def score_specs(layout: Layout) -> Specs:
    """Inputs of `score`: request rows, candidate rows, and the request of each candidate."""
    specs = _specs(
        {f"{group}_ids": layout.id_width(group) for group in GROUPS},
        {f"{group}_floats": layout.float_width(group) for group in GROUPS},
    )
    return {**specs, "row_to_request": tf.TensorSpec([None], tf.int32, name="row_to_request")}


def build(
    model: Model,
    spec: FeatureSpec,
    *,
    negative_sampling_rate: float = 1.0,
    compute: Compute = "float32",
    calibration: Calibration | None = None,
) -> Mapping[str, Any]:
    """The concrete functions by signature name.

    A model trained on all clicks and a share q of the non-clicks overestimates the odds by 1 / q, so log q is added to
    its logits (He et al.: Practical Lessons from Predicting Clicks on Ads at Facebook, 2014, section 6.3).

    Args:
        compute: number format of the dense layers.
        calibration: the map of the corrected logits; its sampling rate is a part of `negative_sampling_rate`.
    """
    layout = Layout(spec)
    correction = math.log(negative_sampling_rate)

    def ctr(inputs: ModelInputs) -> Mapping[str, tf.Tensor]:
        logits = model.logits(inputs)
        if calibration is None:
            return {"ctr": tf.sigmoid(logits + correction if correction else logits)}
        before = math.log(calibration.sampling_rate)
        logits = calibrated_log_odds(calibration.map, logits + before)
        return {"ctr": tf.sigmoid(logits + (correction - before))}

    def serving_default(**tensors: tf.Tensor) -> Mapping[str, tf.Tensor]:
        first = next(iter(tensors.values()))
        empty = _absent(tensors, first)
        return ctr(flat_inputs(layout, empty("ids", tf.int32), empty("floats", tf.float32)))

    def score(**tensors: tf.Tensor) -> Mapping[str, tf.Tensor]:
        row_to_request = tensors["row_to_request"]
        request = _absent(tensors, tensors.get("request_ids", tensors.get("request_floats")))
        candidate = _absent(tensors, row_to_request)
        candidate_ids = [tensors[name] for name in ("candidate_ids", "pair_ids") if name in tensors]
        return ctr(
            ModelInputs(
                request("request_ids", tf.int32),
                request("request_floats", tf.float32),
                tf.concat(candidate_ids, axis=1) if candidate_ids else candidate("candidate_ids", tf.int32),
                candidate("candidate_floats", tf.float32),
                row_to_request,
            )
        )

    def feature_spec() -> Mapping[str, tf.Tensor]:
        return {"spec": tf.constant(spec.to_json())}

    def feature_spec_rest(rows: tf.Tensor) -> Mapping[str, tf.Tensor]:
        return {"spec": tf.fill(tf.shape(rows), spec.to_json())}

    with _computing_in(model, compute):
        scoring = {
            "serving_default": tf.function(serving_default, autograph=False).get_concrete_function(
                **flat_specs(layout)
            ),
            "score": tf.function(score, autograph=False).get_concrete_function(**score_specs(layout)),
        }
    return {
        **scoring,
        "feature_spec": tf.function(feature_spec, autograph=False).get_concrete_function(),
        # TensorFlow Serving's REST API, and its batching, need an input.
        "feature_spec_rest": tf.function(feature_spec_rest, autograph=False).get_concrete_function(
            rows=tf.TensorSpec([None], tf.int32, name="rows")
        ),
    }


@contextmanager
def _computing_in(model: Model, compute: Compute) -> Iterator[None]:
    """Graphs that are traced inside compute the dense layers in this format."""
    parts = deep_parts(model)
    try:
        for part in parts:
            part.compute = tf.as_dtype(compute)
        yield
    finally:
        for part in parts:
            part.compute = tf.float32


class _absent:  # noqa: N801  used as a function
    """Returns an input; if it is absent, a matrix [rows of `like`, 0]."""

    def __init__(self, tensors: Mapping[str, tf.Tensor], like: tf.Tensor) -> None:
        self._tensors, self._like = tensors, like

    def __call__(self, name: str, dtype: tf.DType) -> tf.Tensor:
        found = self._tensors.get(name)
        return tf.zeros([tf.shape(self._like)[0], 0], dtype) if found is None else found


def _specs(ids: Mapping[str, int], floats: Mapping[str, int]) -> Specs:
    specs = {name: tf.TensorSpec([None, width], tf.int32, name=name) for name, width in ids.items() if width}
    return specs | {
        name: tf.TensorSpec([None, width], tf.float32, name=name) for name, width in floats.items() if width
    }
