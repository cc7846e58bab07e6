"""Exported versions: signatures, warm-up, and atomic appearance."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from model_training.data.click_log import encode_log, read_log
from model_training.errors import ExportError
from model_training.export import saved_model as exporting
from model_training.export.saved_model import export, model_size
from model_training.models.wide_deep import WideDeep
from model_training.training.prediction import predict
from streamer.features import Encoder, FeatureSpec, Layout
from tests.model_training.conftest import SPEC

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def model(spec: FeatureSpec) -> WideDeep:
    model = WideDeep(Layout(spec), [16, 8], embedding_stddev=0.5)
    weights = np.random.default_rng(1).normal(size=model.wide.weights.shape).astype(np.float32)
    weights[0] = 0
    model.wide.weights.assign(weights)
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, model: WideDeep, spec: FeatureSpec) -> Path:
    return export(model, spec, tmp_path_factory.mktemp("models") / "ctr", 7)


def test_the_signatures_and_the_spec(exported: Path, spec: FeatureSpec) -> None:
    signatures = tf.saved_model.load(str(exported)).signatures
    assert set(signatures) == {"serving_default", "score", "feature_spec", "feature_spec_rest"}
    (text,) = signatures["feature_spec"]().values()
    assert FeatureSpec.from_json(text.numpy()) == spec
    assert signatures["feature_spec_rest"](rows=tf.zeros([2], tf.int32))["spec"].numpy().tolist() == [text.numpy()] * 2
    inputs = signatures["score"].structured_input_signature[1]
    assert {name: list(s.shape) for name, s in inputs.items()} == {
        "request_ids": [None, 7],
        "request_floats": [None, 1],
        "candidate_ids": [None, 1],
        "candidate_floats": [None, 2],
        "pair_ids": [None, 4],
        "row_to_request": [None],
    }
    assert set(signatures["serving_default"].structured_input_signature[1]) == {"ids", "floats"}


def test_both_signatures_score_like_training(
    exported: Path, model: WideDeep, spec: FeatureSpec, encoder: Encoder, log: Path
) -> None:
    (examples,) = encode_log(read_log(log, last=10), encoder)
    signatures = tf.saved_model.load(str(exported)).signatures
    flat = signatures["serving_default"](ids=examples.ids, floats=examples.floats)["ctr"].numpy()
    layout = encoder.layout
    a, b, c = layout.id_width("request"), layout.id_width("candidate"), layout.float_width("request")
    factored = signatures["score"](
        request_ids=examples.ids[::3, :a],
        request_floats=examples.floats[::3, :c],
        candidate_ids=examples.ids[:, a : a + b],
        candidate_floats=examples.floats[:, c:],
        pair_ids=examples.ids[:, a + b :],
        row_to_request=np.repeat(np.arange(10, dtype=np.int32), 3),
    )["ctr"].numpy()
    np.testing.assert_allclose(flat, predict(model, spec, examples.ids, examples.floats), atol=1e-6)
    np.testing.assert_allclose(factored, flat, atol=1e-5)
    assert flat.shape == (30,)
    assert flat.std() > 0.01


def test_inputs_without_columns_are_omitted(tmp_path: Path) -> None:
    features = [
        {"name": "user", "path": "user", "side": "user", "kind": "categorical", "buckets": 9, "deep": True},
        {"name": "ad", "path": "ad_id", "side": "candidate", "kind": "categorical", "buckets": 9, "wide": True},
    ]
    thin = FeatureSpec.from_mapping({"name": "thin", "embedding_dim": 2, "features": features})
    path = export(WideDeep(Layout(thin), [4]), thin, tmp_path, 1)
    signatures = tf.saved_model.load(str(path)).signatures
    assert set(signatures["serving_default"].structured_input_signature[1]) == {"ids"}
    assert set(signatures["score"].structured_input_signature[1]) == {"request_ids", "candidate_ids", "row_to_request"}
    owner = np.zeros(3, np.int32)
    ids = np.array([[10], [11], [12]], np.int32)
    ctr = signatures["score"](request_ids=np.array([[2]], np.int32), candidate_ids=ids, row_to_request=owner)["ctr"]
    assert ctr.shape == (3,)


def test_sampled_negatives_are_corrected_in_the_graph(tmp_path: Path, model: WideDeep, spec: FeatureSpec) -> None:
    path = export(model, spec, tmp_path, 1, negative_sampling_rate=0.1)
    layout = Layout(spec)
    ids = np.ones((5, layout.row_ids), np.int32) * np.arange(1, 6, dtype=np.int32)[:, None]
    floats = np.zeros((5, layout.row_floats), np.float32)
    served = tf.saved_model.load(str(path)).signatures["serving_default"](ids=ids, floats=floats)["ctr"].numpy()
    raw = predict(model, spec, ids, floats)
    np.testing.assert_allclose(served / (1 - served), 0.1 * raw / (1 - raw), rtol=1e-4)


def test_warm_up_requests_can_be_replayed(exported: Path) -> None:
    signatures = tf.saved_model.load(str(exported)).signatures
    rows = []
    for record in tf.data.TFRecordDataset(str(exported / "assets.extra" / "tf_serving_warmup_requests")):
        request = PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == "ctr"
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        ctr = signatures[request.model_spec.signature_name](**{k: tf.constant(v) for k, v in inputs.items()})["ctr"]
        rows.append((request.model_spec.signature_name, ctr.shape[0]))
    assert rows == [("score", 1), ("score", 300), ("score", 1200), ("serving_default", 1), ("serving_default", 300)]


def test_a_version_is_never_overwritten(exported: Path, model: WideDeep, spec: FeatureSpec) -> None:
    with pytest.raises(ExportError, match="exists already"):
        export(model, spec, exported.parent, 7)


@pytest.mark.parametrize(("version", "rate", "message"), [(0, 1.0, "version 0"), (1, 0.0, "negative_sampling_rate 0")])
def test_impossible_exports_are_rejected(
    tmp_path: Path, model: WideDeep, version: int, rate: float, message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        export(model, FeatureSpec.from_mapping(SPEC), tmp_path / "ctr", version, negative_sampling_rate=rate)
    assert not (tmp_path / "ctr").exists()


def test_a_failure_leaves_nothing(
    tmp_path: Path, model: WideDeep, spec: FeatureSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def full_disk(layout: Layout, path: Path, name: str) -> None:
        seen.append([entry.name for entry in tmp_path.iterdir()])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "write_warmup", full_disk)
    with pytest.raises(ExportError, match="No space left on device"):
        export(model, spec, tmp_path, 3)
    ((name,),) = seen
    assert not name.isdigit()
    assert list(tmp_path.iterdir()) == []


def test_the_size_counts_every_parameter_once(exported: Path, model: WideDeep, spec: FeatureSpec) -> None:
    layout, size = Layout(spec), model_size(model, exported)
    assert size.embedding_parameters == layout.embedded_rows * 4
    assert size.wide_parameters == layout.table_rows + 2
    # Six embedded features of 4 dimensions and two numbers: 26 → 16 → 8 → 1, with biases.
    assert size.dense_parameters == 26 * 16 + 16 + 16 * 8 + 8 + 8 + 1
    assert size.file_bytes > 4 * (size.embedding_parameters + size.wide_parameters + size.dense_parameters)
