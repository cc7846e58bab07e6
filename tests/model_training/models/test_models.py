"""Every model: its equation, its factored form, its training."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from model_training.config.model import KINDS
from model_training.config.training import DeepConfig, TrainingConfig
from model_training.data.click_log import encode_log, read_log
from model_training.data.examples import Examples
from model_training.errors import ConfigError
from model_training.export.signatures import build
from model_training.models.build import build_model
from model_training.models.model import Model
from model_training.parts.inputs import flat_inputs
from model_training.training.loop import Progress
from model_training.training.single_process import train
from streamer.features import Encoder, FeatureSpec, Layout
from streamer.types import F32

pytestmark = pytest.mark.tensorflow

_SMALL: dict[str, dict[str, object]] = {
    "wide_deep": {"kind": "wide_deep", "hidden_units": [16, 8]},
    "deepfm": {"kind": "deepfm", "hidden_units": [16, 8]},
    "dcn": {"kind": "dcn", "hidden_units": [16, 8]},
    "dcn_v2": {"kind": "dcn_v2", "hidden_units": [16, 8]},
    "dcn_v2_parallel": {"kind": "dcn_v2", "hidden_units": [16], "structure": "parallel", "rank": 2},
    "xdeepfm": {"kind": "xdeepfm", "hidden_units": [16, 8], "feature_maps": [5, 3]},
    "logistic_regression": {"kind": "logistic_regression"},
}
_ALL = pytest.mark.parametrize("name", _SMALL)


@pytest.fixture
def examples(log: Path, encoder: Encoder) -> Examples:
    """Ten requests with three candidates each."""
    (encoded,) = encode_log(read_log(log, last=10), encoder)
    return encoded


def _config(name: str, **settings: object) -> TrainingConfig:
    return TrainingConfig.model_validate({"spec": "unused", "model": _SMALL[name], "seed": 3, **settings})


def _model(name: str, spec: FeatureSpec) -> Model:
    """A model in which only padding is zero."""
    model = build_model(_config(name), spec)
    rng = np.random.default_rng(4)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(scale=0.3, size=variable.shape).astype(np.float32))
    for table in model.tables:
        table.assign(tf.concat([tf.zeros_like(table[:1]), table[1:]], axis=0))
    return model


def _named(model: Model) -> dict[str, F32]:
    return {variable.name.split(":")[0]: variable.numpy() for variable in model.trainable_variables}


def test_every_kind_is_tried() -> None:
    assert {str(settings["kind"]) for settings in _SMALL.values()} == set(KINDS)


@_ALL
def test_both_signatures_agree(name: str, spec: FeatureSpec, encoder: Encoder, examples: Examples) -> None:
    signatures, layout = build(_model(name, spec), spec), encoder.layout
    flat = signatures["serving_default"](ids=examples.ids, floats=examples.floats)["ctr"].numpy()
    a, b, c = layout.id_width("request"), layout.id_width("candidate"), layout.float_width("request")
    # Rows may be in any order of the requests.
    mixed = np.random.default_rng(5).permutation(30)
    factored = signatures["score"](
        request_ids=examples.ids[::3, :a],
        request_floats=examples.floats[::3, :c],
        candidate_ids=examples.ids[mixed, a : a + b],
        candidate_floats=examples.floats[mixed, c:],
        pair_ids=examples.ids[mixed, a + b :],
        row_to_request=np.repeat(np.arange(10, dtype=np.int32), 3)[mixed],
    )["ctr"].numpy()
    np.testing.assert_allclose(factored, flat[mixed], atol=1e-5)
    assert flat.shape == (30,)
    assert flat.std() > 0.01


# Wide & Deep has its own file (training); both forms of Deep & Cross v2 train in the same way.
@pytest.mark.parametrize("name", [name for name in _SMALL if name not in {"wide_deep", "dcn_v2"}])
def test_training_learns_and_keeps_padding(name: str, spec: FeatureSpec, encoder: Encoder, log: Path) -> None:
    (examples,) = encode_log(read_log(log, last=100), encoder, chunk=10**6)
    rates = DeepConfig(learning_rate=0.05, embedding_learning_rate=0.1)
    settings = _config(name).model_copy(update={"deep": rates})
    data = tf.data.Dataset.from_tensors((examples.ids, examples.floats, examples.labels.astype(np.float32))).repeat(40)
    model = build_model(settings, spec)
    reports: list[Progress] = []
    train(model, spec, data, settings, reports.append)
    assert reports[-1].loss < reports[0].loss - 0.01
    for table in model.tables:
        assert np.all(table.numpy()[0] == 0)
    for variable, value in _named(model).items():
        assert np.isfinite(value).all(), variable


@_ALL
def test_a_model_s_own_seed_decides_its_weights(name: str, spec: FeatureSpec) -> None:
    first, second = (build_model(_config(name), spec) for _ in range(2))
    for one, other in zip(first.trainable_variables, second.trainable_variables, strict=True):
        np.testing.assert_array_equal(one, other)


@_ALL
def test_the_bias_of_the_logit_begins_at_the_log_odds(name: str, spec: FeatureSpec) -> None:
    rare, even = (build_model(_config(name), spec, log_odds=at) for at in (-5.5, 0.0))
    for one, other in zip(rare.trainable_variables, even.trainable_variables, strict=True):
        np.testing.assert_array_equal(one, np.float32(-5.5) if one.name == "bias:0" else other)
    assert "bias" in _named(rare)


@_ALL
def test_a_spec_without_candidates_is_rejected(name: str) -> None:
    features = [{"name": "user", "path": "user", "side": "user", "kind": "categorical", "buckets": 9, "deep": True}]
    lonely = FeatureSpec.from_mapping({"name": "lonely", "embedding_dim": 2, "features": features})
    with pytest.raises(ConfigError, match="spec 'lonely': needs features of user or context, and of candidates"):
        build_model(_config(name), lonely)


@_ALL
@pytest.mark.parametrize("deep_input", ["user", "candidate"])
def test_deep_columns_of_one_input_suffice(name: str, deep_input: str) -> None:
    features = [
        {
            "name": side,
            "path": side,
            "side": side,
            "kind": "numeric",
            "deep": side == deep_input,
            "wide": side != deep_input,
        }
        for side in ("user", "candidate")
    ]
    spec = FeatureSpec.from_mapping({"name": "thin", "embedding_dim": 2, "features": features})
    layout = Layout(spec)
    model = build_model(_config(name), spec)
    inputs = flat_inputs(layout, tf.zeros([2, 0], tf.int32), tf.constant([[0.5, 1.0], [2.0, 3.0]]))
    assert model.logits(inputs).shape == (2,)


@pytest.mark.parametrize("name", [name for name in _SMALL if name != "logistic_regression"])
def test_a_network_without_deep_features_is_rejected(name: str) -> None:
    features = [
        {"name": side, "path": side, "side": side, "kind": "numeric", "wide": True} for side in ("user", "candidate")
    ]
    spec = FeatureSpec.from_mapping({"name": "shallow", "embedding_dim": 2, "features": features})
    with pytest.raises(ConfigError, match="spec 'shallow': needs deep features"):
        build_model(_config(name), spec)
