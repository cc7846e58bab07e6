"""Calibration in the graph of a version: both signatures, and the record of the fit."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from model_training.calibration import Calibration, Figures, Isotonic, Platt
from model_training.data.click_log import encode_log, read_log
from model_training.data.examples import Examples
from model_training.evaluation.metrics import recalibrated
from model_training.export.calibration import FILE
from model_training.export.saved_model import export
from model_training.export.servable import Servable, factored
from model_training.export.signatures import build
from model_training.models.logistic_regression import LogisticRegression
from model_training.training.prediction import predict
from streamer.features import Encoder, FeatureSpec, Layout

pytestmark = pytest.mark.tensorflow

_FIGURES = Figures(0.3, 1.2, 0.05), Figures(0.2, 1.0, 0.01)
_MAPS = Platt(0.7, -0.4), Isotonic((-1.0, -0.2, 0.3), (-3.0, -0.5, -0.25))


@pytest.fixture(scope="module")
def model(spec: FeatureSpec) -> LogisticRegression:
    model = LogisticRegression(Layout(spec))
    drawn = np.random.default_rng(1).normal(scale=0.4, size=model.wide.weights.shape)
    model.wide.weights.assign(np.where(np.arange(len(drawn)), drawn, 0))
    return model


@pytest.fixture
def examples(log: Path, encoder: Encoder) -> Examples:
    (encoded,) = encode_log(read_log(log, last=30), encoder)
    return encoded


@pytest.mark.parametrize("way", _MAPS, ids=["platt", "isotonic"])
def test_both_signatures_are_calibrated(
    way: Platt | Isotonic, model: LogisticRegression, spec: FeatureSpec, examples: Examples
) -> None:
    # The training examples have half of the non-clicks of the fit's, and those have a tenth of all.
    calibration = Calibration(way, 0.5, 100, 10, *_FIGURES)
    signatures = build(model, spec, negative_sampling_rate=0.05, calibration=calibration)
    ids, floats = examples.ids, examples.floats
    flat = signatures["serving_default"](ids=ids, floats=floats)["ctr"].numpy()
    inputs = factored(Layout(spec), (ids, floats), (ids, floats), np.arange(len(ids), dtype=np.int32))
    wanted = signatures["score"].structured_input_signature[1]
    score = signatures["score"](**{key: value for key, value in inputs.items() if key in wanted})["ctr"].numpy()
    np.testing.assert_allclose(score, flat, atol=1e-6)
    plain = predict(model, spec, ids, floats)
    expected = recalibrated(calibration.scores(recalibrated(plain, 0.5)), 0.1)
    np.testing.assert_allclose(flat, expected, rtol=1e-4)
    assert np.ptp(plain) > 0.3


@pytest.mark.slow
def test_a_version_has_the_record_of_its_calibration(
    tmp_path: Path, model: LogisticRegression, spec: FeatureSpec, examples: Examples
) -> None:
    calibration = Calibration(_MAPS[1], 1.0, 100, 10, *_FIGURES)
    version = Servable.load(export(model, spec, tmp_path / "ctr", 1, calibration=calibration))
    version.check_agreement(examples.ids, examples.floats)
    content = orjson.loads((version.path / FILE).read_bytes())
    assert content["map"] == {"kind": "isotonic", "inputs": [-1.0, -0.2, 0.3], "outputs": [-3.0, -0.5, -0.25]}
    assert (content["examples"], content["before"]["calibration"], content["after"]["calibration"]) == (100, 1.2, 1.0)
    plain = predict(model, spec, examples.ids, examples.floats)
    np.testing.assert_allclose(version.uncalibrated_scores(examples.ids, examples.floats), plain, atol=1e-6)
    expected = calibration.scores(plain)
    np.testing.assert_allclose(version.scores(examples.ids, examples.floats), expected, rtol=1e-4)
