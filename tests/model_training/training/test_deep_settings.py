"""Settings of the deep part, each against NumPy or Keras."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from model_training.config.training import DeepConfig, FtrlConfig, ScheduleConfig
from model_training.data.click_log import encode_log, read_log
from model_training.data.input_pipeline import Batch
from model_training.models.deepfm import DeepFm
from model_training.parts.deep import dropping
from model_training.parts.inputs import flat_inputs
from model_training.training.adam import Adam
from model_training.training.optimizers import WideDeepOptimizer
from model_training.training.schedule import Clock
from model_training.training.step import dropout_seed, loss_and_gradients
from streamer.features import Encoder, FeatureSpec, Layout

pytestmark = pytest.mark.tensorflow

_SEED = tf.constant([1, 2])


@pytest.fixture
def model(spec: FeatureSpec) -> DeepFm:
    return DeepFm(Layout(spec), [16, 8], embedding_stddev=0.5)


@pytest.fixture
def batch(log: Path, encoder: Encoder) -> Batch:
    (examples,) = encode_log(read_log(log, last=20), encoder)
    return tf.constant(examples.ids), tf.constant(examples.floats), tf.constant(examples.labels, tf.float32)


def test_dropout_leaves_out_a_share_of_a_layer_and_scales_the_rest(model: DeepFm) -> None:
    with dropping(model, 0.25, _SEED):
        assert model.deep.drop is not None
        layers = [model.deep.drop(tf.ones([200, 50]), layer).numpy() for layer in (0, 1)]
    for kept in layers:
        assert set(np.unique(kept).tolist()) == {0.0, np.float32(1 / 0.75)}
        assert np.mean(kept == 0) == pytest.approx(0.25, abs=0.02)
    assert np.mean(layers[0] == layers[1]) < 0.7


def test_dropout_is_of_training_only_and_differs_by_step_and_process(
    model: DeepFm, batch: Batch, spec: FeatureSpec
) -> None:
    inputs = flat_inputs(Layout(spec), batch[0], batch[1])

    def dropped(seed: tf.Tensor) -> list[float]:
        with dropping(model, 0.5, seed):
            return list(model.logits(inputs).numpy())

    plain = list(model.logits(inputs).numpy())
    of_steps = [dropped(dropout_seed(1, tf.constant(step), (i, 2))) for step in (0, 1) for i in (0, 1)]
    for i, one in enumerate(of_steps):
        assert all(one != other for other in (plain, *of_steps[:i]))
    assert dropped(dropout_seed(1, tf.constant(1), (1, 2))) == of_steps[3]
    # What is traced later, such as an export, has no dropout.
    assert model.deep.drop is None
    assert list(model.logits(inputs).numpy()) == plain


def test_the_penalty_is_of_dense_kernels_and_not_in_the_reported_loss(
    model: DeepFm, batch: Batch, spec: FeatureSpec
) -> None:
    trained = list(model.trainable_variables)

    def found(l2: float) -> tuple[float, list[tf.Tensor]]:
        loss, gradients = loss_and_gradients(model, Layout(spec), trained, batch, deep=DeepConfig(l2=l2), seed=_SEED)
        return float(loss), [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]

    (plain_loss, plain), (loss, penalised) = found(0.0), found(0.1)
    assert loss == plain_loss
    dense = {id(kernel) for kernel in model.deep.weights}
    assert len(dense) == 4
    for variable, without, with_penalty in zip(trained, plain, penalised, strict=True):
        expected = 2 * 0.1 * variable.numpy() if id(variable) in dense else 0.0
        np.testing.assert_allclose(with_penalty - without, expected + 0 * without, atol=1e-6, err_msg=variable.name)


@pytest.mark.parametrize("decay", ["none", "linear", "cosine"])
def test_a_schedule_is_that_of_keras_after_a_warm_up(decay: str) -> None:
    settings = ScheduleConfig.model_validate(
        {"warmup_share": 0.2, "decay": decay, "final_share": 0 if decay == "none" else 0.1}
    )
    keras = {
        "none": lambda step: 1.0,
        "linear": tf.keras.optimizers.schedules.PolynomialDecay(1.0, 40, end_learning_rate=0.1),
        "cosine": tf.keras.optimizers.schedules.CosineDecay(1.0, 40, alpha=0.1),
    }[decay]
    for made in range(60):
        factor = float(Clock(partial(tf.constant, float(made)), 50).factor(settings))
        expected = (made + 1) / 10 if made < 10 else float(keras(made - 10))
        assert factor == pytest.approx(expected, abs=1e-6), made


def test_adam_is_that_of_keras_with_a_schedule() -> None:
    settings = DeepConfig(optimizer="adam", schedule=ScheduleConfig(decay="cosine"))
    assert settings.learning_rate == 0.001
    ours, theirs, made = tf.Variable([0.5, -2.0, 0.0]), tf.Variable([0.5, -2.0, 0.0]), tf.Variable(0.0)
    rule = Adam(settings, Clock(made.read_value, 4))
    slots = [tf.Variable(rule.initial(slot, tf.zeros(3))) for slot in rule.slots]
    keras = tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(0.001, 4))
    keras.build([theirs])
    for gradient in ([1.0, -3.0, 0.0], [0.5, 2.0, 1e-4], [-1.0, 0.0, 2.0]):
        rule.dense(ours, slots, tf.constant(gradient), 64.0)
        keras.apply_gradients([(tf.constant(gradient), theirs)])
        made.assign_add(1.0)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("clip_norm", [2.0, 50.0])
def test_the_norm_of_all_gradients_is_limited_with_repeated_rows_as_one(model: DeepFm, clip_norm: float) -> None:
    deep = DeepConfig(learning_rate=0.1, embedding_learning_rate=0.2, initial_accumulator=1.0)
    optimizer = WideDeepOptimizer(model, FtrlConfig(), deep, clip_norm=clip_norm)
    table, bias = model.embedding.table, model.bias
    before = table.numpy().copy(), bias.numpy()
    gradients: list[tf.Tensor | tf.IndexedSlices] = [tf.zeros_like(v) for v in optimizer.trained]
    at = {id(v): i for i, v in enumerate(optimizer.trained)}
    # Row 3 has 2 + 1 in each of 4 dimensions; row 0 is padding and does not count.
    gradients[at[id(table)]] = tf.IndexedSlices(
        tf.constant([[2.0] * 4, [9.0] * 4, [1.0] * 4]), tf.constant([3, 0, 3]), tf.shape(table)
    )
    gradients[at[id(bias)]] = tf.constant(8.0)
    optimizer.apply(gradients, tf.constant(1.0))
    scale = min(1.0, clip_norm / (4 * 3.0**2 + 8.0**2) ** 0.5)
    row, number = 3 * scale, 8 * scale
    moved = before[0] - table.numpy()
    np.testing.assert_allclose(moved[3], 0.2 * row / (1 + row**2) ** 0.5, rtol=1e-5)
    assert np.count_nonzero(moved) == 4
    assert before[1] - bias.numpy() == pytest.approx(0.1 * number / (1 + number**2) ** 0.5, rel=1e-5)
