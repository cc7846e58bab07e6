"""A version whose signatures fail is one line that names the version and the signature."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from model_training.errors import BrokenVersionError, ExportError
from model_training.export.servable import Servable
from streamer.features import FeatureSpec, Layout

pytestmark = pytest.mark.tensorflow

Score = Callable[[tf.Tensor], tf.Tensor]


def _servable(spec: FeatureSpec, score: Score, *, output: str = "ctr", default: object = None) -> Servable:
    layout = Layout(spec)

    def flat_form(*, ids: tf.Tensor, floats: tf.Tensor) -> dict[str, tf.Tensor]:
        return {output: score(ids) + 0 * floats[0, 0]}

    def factored_form(*, row_to_request: tf.Tensor) -> dict[str, tf.Tensor]:
        return {output: score(row_to_request[:, None])}

    flat = tf.function(flat_form, autograph=False).get_concrete_function(
        ids=tf.TensorSpec([None, layout.row_ids], tf.int32), floats=tf.TensorSpec([None, layout.row_floats], tf.float32)
    )
    factored = tf.function(factored_form, autograph=False).get_concrete_function(
        row_to_request=tf.TensorSpec([None], tf.int32)
    )
    signatures = {"serving_default": default or flat, "score": factored}
    loaded = SimpleNamespace(signatures=signatures, float32=flat, uncalibrated=flat)
    return Servable(Path("models/7"), spec, 0, 0, "bfloat16", loaded)


def _not_in_table(ids: tf.Tensor) -> tf.Tensor:
    """As a table that is smaller than the spec says."""
    return tf.gather(tf.zeros([1]), ids[:, 0] + 5)


@pytest.mark.parametrize(
    ("score", "output", "reason"),
    [
        (_not_in_table, "ctr", "fails: indices[0] = 5 is not in [0, 1)"),
        (lambda ids: tf.cast(ids[:, 0], tf.float32), "p", "fails: 'ctr'"),
        (lambda _: tf.zeros([7]), "ctr", r"gives scores of shape (7,) for"),
        (lambda ids: tf.zeros_like(ids, tf.float32), "ctr", r"gives scores of shape ("),
    ],
)
def test_a_signature_that_fails_is_named(spec: FeatureSpec, score: Score, output: str, reason: str) -> None:
    servable, layout = _servable(spec, score, output=output), Layout(spec)
    rows = np.zeros((3, layout.row_ids), np.int32), np.zeros((3, layout.row_floats), np.float32)
    for call, what in (
        (lambda: servable.scores(*rows), "signature serving_default"),
        (lambda: servable.score_seconds(*rows, 1), "signature score"),
        (lambda: servable.check_agreement(*rows), "signature score"),
        (lambda: servable.float32_scores(*rows), "function float32"),
        (lambda: servable.uncalibrated_scores(*rows), "function uncalibrated"),
    ):
        with pytest.raises(BrokenVersionError) as caught:
            call()
        message = str(caught.value)
        assert message.startswith(f"models/7: {what} {reason}"), message
        assert "\n" not in message


def test_a_lack_of_memory_does_not_make_a_version_broken(spec: FeatureSpec) -> None:
    def score(**_: tf.Tensor) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    score.structured_input_signature = ((), {})  # type: ignore[attr-defined]
    layout = Layout(spec)
    servable = _servable(spec, lambda ids: tf.zeros_like(ids[:, 0], tf.float32), default=score)
    with pytest.raises(ExportError, match="models/7: signature serving_default fails: OOM") as caught:
        servable.scores(np.zeros((1, layout.row_ids), np.int32), np.zeros((1, layout.row_floats), np.float32))
    assert not isinstance(caught.value, BrokenVersionError)
