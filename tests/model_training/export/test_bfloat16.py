"""Versions whose dense layers compute in bfloat16: the same interface, nearly the same scores."""

from pathlib import Path

import numpy as np
import pytest
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from model_training.config.gate import GateConfig
from model_training.data.click_log import encode_log, read_log
from model_training.data.examples import Examples
from model_training.export.saved_model import export
from model_training.export.servable import Servable
from model_training.models.wide_deep import WideDeep
from model_training.publishing.candidate import evaluate
from model_training.publishing.gate import decide
from model_training.training.prediction import predict
from streamer.features import Encoder, FeatureSpec, Layout

pytestmark = pytest.mark.tensorflow

_ROUNDING = 0.01
"""The largest difference of a score; bfloat16 has 8 significant bits."""


@pytest.fixture(scope="module")
def model(spec: FeatureSpec) -> WideDeep:
    """A model whose dense layers decide its scores."""
    return WideDeep(Layout(spec), [32, 16], embedding_stddev=0.5)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory, model: WideDeep, spec: FeatureSpec) -> tuple[Servable, Servable]:
    """The same weights exported to compute in float32 and in bfloat16."""
    base = tmp_path_factory.mktemp("bfloat16") / "ctr"
    exported = export(model, spec, base, 1), export(model, spec, base, 2, compute="bfloat16")
    exact, rounded = (Servable.load(path) for path in exported)
    return exact, rounded


@pytest.fixture
def examples(log: Path, encoder: Encoder) -> Examples:
    (encoded,) = encode_log(read_log(log, last=100), encoder)
    return encoded


def test_the_scores_are_nearly_those_of_float32(
    versions: tuple[Servable, Servable], model: WideDeep, spec: FeatureSpec, examples: Examples
) -> None:
    exact, rounded = versions
    ids, floats = examples.ids, examples.floats
    expected, found = exact.scores(ids, floats), rounded.scores(ids, floats)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < _ROUNDING < expected.std()
    rounded.check_agreement(ids, floats)
    # The exported float32 form, and the model in memory, still compute in float32.
    np.testing.assert_allclose(rounded.float32_scores(ids, floats), expected, atol=1e-6)
    np.testing.assert_allclose(predict(model, spec, ids, floats), expected, atol=1e-6)


def test_clients_see_no_difference(versions: tuple[Servable, Servable]) -> None:
    exact, rounded = versions
    assert (exact.compute, rounded.compute) == ("float32", "bfloat16")
    assert rounded.parameters == exact.parameters
    assert rounded.spec == exact.spec
    assert _interface(rounded) == _interface(exact)


def _interface(version: Servable) -> dict[str, list[list[tuple[str, int, str]]]]:
    """Names, dtypes and shapes of each signature's inputs and outputs, as a server reads them."""
    (graph,) = SavedModel.FromString((version.path / "saved_model.pb").read_bytes()).meta_graphs
    return {
        name: [
            sorted((alias, info.dtype, str(info.tensor_shape)) for alias, info in side.items())
            for side in (signature.inputs, signature.outputs)
        ]
        for name, signature in graph.signature_def.items()
    }


def test_the_gate_rejects_a_model_that_bfloat16_makes_worse(
    tmp_path: Path, spec: FeatureSpec, examples: Examples
) -> None:
    """Large equal terms that cancel each other leave small differences, which bfloat16 loses."""
    model = WideDeep(Layout(spec), [4], embedding_stddev=0.5)
    model.deep.first_bias.assign([1000.0] * 4)
    model.deep.output_kernel.assign([[1.0], [-1.0], [1.0], [-1.0]])
    candidate = Servable.load(export(model, spec, tmp_path, 1, compute="bfloat16"))
    found = evaluate(candidate, None, {spec.hash: examples})
    assert found.candidate.compute == "bfloat16"
    others = ("min_clicks", "min_auc", "max_normalised_entropy", "max_calibration_bias")
    limits = GateConfig.model_validate(dict.fromkeys(others))
    (verdict,) = decide(found, limits, 0.95)
    assert (verdict.limit, verdict.at_least, verdict.holds) == ("max_bfloat16_auc_loss", -0.0005, False)
    assert decide(found, limits.model_copy(update={"max_bfloat16_auc_loss": None}), 0.95) == []
