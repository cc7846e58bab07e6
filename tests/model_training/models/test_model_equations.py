"""Each whole model against its paper's equation in NumPy, with nothing shared.

The equation computes everything anew for each candidate.
"""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from model_training.config.training import TrainingConfig
from model_training.data.click_log import encode_log, read_log
from model_training.data.examples import Examples
from model_training.models.build import build_model
from model_training.parts.inputs import ModelInputs, flat_inputs
from streamer.features import Cross, Encoder, FeatureSpec
from streamer.types import F32
from tests.model_training.crossings import cin_by_loops

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def examples(log: Path, encoder: Encoder) -> Examples:
    (encoded,) = encode_log(read_log(log, last=10), encoder)
    return encoded


def _deep_inputs(model: Any, inputs: ModelInputs) -> tuple[F32, F32]:
    return model.embedding.request(inputs).joined().numpy(), model.embedding.candidate(inputs).joined().numpy()


def _fields(model: Any, inputs: ModelInputs) -> tuple[F32, F32]:
    """Fields of request and candidate, [n, fields, dim]."""
    ends = []
    for end in ("request", "candidate"):
        embedded = getattr(model.embedding, end)(inputs)
        vectors = embedded.vectors.numpy().reshape(len(embedded.vectors), -1, model.embedding.dim)
        numbers = embedded.numbers.numpy()[:, :, None] * getattr(model.fields, f"{end}_numbers").numpy()
        ends.append(np.concatenate([vectors, numbers], axis=1))
    return ends[0], ends[1]


def _network(model: Any, x: F32) -> F32:
    part = model.deep
    hidden = x @ np.vstack([part.request_kernel, part.candidate_kernel]) + part.first_bias.numpy()
    for kernel, bias in zip(part.kernels, part.biases, strict=True):
        hidden = np.maximum(hidden, 0) @ kernel.numpy() + bias.numpy()
    return _output(np.maximum(hidden, 0), part.output_kernel)


def _wide(model: Any, inputs: ModelInputs) -> F32:
    logits: F32 = model.wide.logit(inputs).numpy()
    return logits


def _output(values: F32, kernel: tf.Variable) -> F32:
    """The output of a layer with one unit for `values` [n, width]."""
    logits: F32 = (values @ kernel.numpy())[:, 0]
    return logits


def _deepfm(model: Any, inputs: ModelInputs) -> F32:
    fields = np.concatenate(_fields(model, inputs), axis=1)
    pairs = sum(np.sum(fields[:, i] * fields[:, j], axis=1) for i, j in combinations(range(fields.shape[1]), 2))
    logits: F32 = _wide(model, inputs) + pairs + _network(model, np.hstack(_deep_inputs(model, inputs)))
    return logits


def _dcn(model: Any, inputs: ModelInputs) -> F32:
    first = np.hstack(_deep_inputs(model, inputs))
    kernel = np.vstack([model.request_kernel, model.candidate_kernel])
    crossed = first
    for layer, bias in enumerate(np.hstack([model.request_biases, model.candidate_biases])):
        crossed = first * (crossed @ kernel[:, layer])[:, None] + bias + crossed
    logits: F32 = crossed @ kernel[:, -1] + _network(model, first)
    return logits


def _dcn_v2(model: Any, inputs: ModelInputs) -> F32:
    first = np.hstack(_deep_inputs(model, inputs))
    kernels = [np.vstack([model.request_kernel, model.candidate_kernel]), *(k.numpy() for k in model.kernels)]
    if model.up_kernels:
        kernels = [down @ up.numpy() for down, up in zip(kernels, model.up_kernels, strict=True)]
    crossed = first
    for kernel, bias in zip(kernels, model.biases, strict=True):
        crossed = first * (crossed @ kernel + bias.numpy()) + crossed
    if model.output_kernel is None:
        return _network(model, crossed)
    return _output(crossed, model.output_kernel) + _network(model, first)


def _xdeepfm(model: Any, inputs: ModelInputs) -> F32:
    ends = _fields(model, inputs)
    fields = np.concatenate(ends, axis=1)
    (r, c), total = model.fields.counts, fields.shape[1]
    maps, pooled, before = (5, 3), [], fields
    for k, count in enumerate(maps):
        weights = np.zeros((total, before.shape[1], count), np.float32)
        if k == 0:
            weights[:r, :r] = model.request_pairs.numpy().reshape(r, r, count)
        start = r if k == 0 else 0
        weights[:r, start:] = model.request_kernels[k].numpy().reshape(r, -1, count)
        weights[r:, start:] = model.candidate_kernels[k].numpy().reshape(c, -1, count)
        before = cin_by_loops(before, fields, weights.transpose(2, 1, 0))
        pooled.append(before.sum(axis=2))
    interactions = _output(np.hstack(pooled), model.output_kernel)
    return _wide(model, inputs) + interactions + _network(model, np.hstack(_deep_inputs(model, inputs)))


@pytest.mark.parametrize(
    ("settings", "equation"),
    [
        ({"kind": "deepfm", "hidden_units": [6, 4]}, _deepfm),
        ({"kind": "dcn", "hidden_units": [6, 4], "cross_layers": 3}, _dcn),
        ({"kind": "dcn_v2", "hidden_units": [6, 4], "cross_layers": 3}, _dcn_v2),
        ({"kind": "dcn_v2", "hidden_units": [6], "structure": "parallel", "rank": 2}, _dcn_v2),
        ({"kind": "xdeepfm", "hidden_units": [6], "feature_maps": [5, 3]}, _xdeepfm),
    ],
    ids=["deepfm", "dcn", "dcn_v2", "dcn_v2_parallel", "xdeepfm"],
)
def test_a_network_is_its_equation(
    settings: dict[str, object],
    equation: Callable[[Any, ModelInputs], F32],
    spec: FeatureSpec,
    encoder: Encoder,
    examples: Examples,
) -> None:
    model: Any = build_model(TrainingConfig.model_validate({"spec": "unused", "model": settings}), spec)
    rng = np.random.default_rng(2)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(scale=0.3, size=variable.shape).astype(np.float32))
    inputs = flat_inputs(encoder.layout, tf.constant(examples.ids), tf.constant(examples.floats))
    expected = equation(model, inputs) + model.bias.numpy()
    np.testing.assert_allclose(model.logits(inputs), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.01


def test_logistic_regression_adds_the_weights_of_all_features_but_crosses(
    spec: FeatureSpec, encoder: Encoder, examples: Examples
) -> None:
    model: Any = build_model(TrainingConfig.model_validate({"spec": "unused", "model": "logistic_regression"}), spec)
    rng = np.random.default_rng(2)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape).astype(np.float32))
    layout, expected = encoder.layout, np.full(30, model.bias.numpy())
    column = 0
    for group in ("request", "candidate", "pair"):
        for columns in layout.ids[group]:
            taken = examples.ids[:, column : column + columns.width]
            column += columns.width
            if not isinstance(columns.feature, Cross):
                expected += model.wide.weights.numpy()[taken].sum(axis=1)
    numbers = np.concatenate([model.wide.request_floats, model.wide.candidate_floats])
    inputs = flat_inputs(layout, tf.constant(examples.ids), tf.constant(examples.floats))
    np.testing.assert_allclose(model.logits(inputs), expected + examples.floats @ numbers, atol=1e-5)
