"""Training of Wide & Deep in one process: its wide part, its optimizer, its steps."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from model_training.config.model import LogisticRegressionConfig
from model_training.config.training import DeepConfig, FtrlConfig, TrainingConfig
from model_training.data.click_log import encode_log, read_log
from model_training.data.examples import Examples
from model_training.data.input_pipeline import batches
from model_training.data.records import write_records
from model_training.errors import DataError
from model_training.models.logistic_regression import LogisticRegression
from model_training.models.wide_deep import WideDeep
from model_training.parts.inputs import flat_inputs
from model_training.training.optimizers import WideDeepOptimizer, sum_by_row
from model_training.training.prediction import predict
from model_training.training.single_process import train, train_records
from streamer.features import Encoder, FeatureSpec, Layout

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def examples(log: Path, encoder: Encoder) -> Examples:
    (encoded,) = encode_log(read_log(log, last=200), encoder)
    return encoded


@pytest.fixture
def config() -> TrainingConfig:
    deep = DeepConfig(learning_rate=0.05, embedding_learning_rate=0.1)
    return TrainingConfig(spec=Path("unused"), batch_size=64, seed=7, deep=deep)


def _model(spec: FeatureSpec) -> WideDeep:
    """A model in which only padding is zero."""
    model = WideDeep(Layout(spec), [16, 8], embedding_stddev=0.5, seed=3)
    rng = np.random.default_rng(4)
    for variable in model.trainable_variables:
        if variable is not model.embedding.table:
            variable.assign(rng.normal(scale=0.3, size=variable.shape).astype(np.float32))
    model.wide.weights.assign(tf.concat([[0.0], model.wide.weights[1:]], axis=0))
    return model


def _snapshot(model: WideDeep) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return [variable.numpy().copy() for variable in model.trainable_variables]


def test_the_wide_part_alone_is_logistic_regression(spec: FeatureSpec, examples: Examples) -> None:
    model, layout = _model(spec), Layout(spec)
    model.deep.output_kernel.assign(tf.zeros_like(model.deep.output_kernel))
    weights = model.wide.weights.numpy()
    user, likes = (layout.ids["request"][i] for i in (0, 2))
    wide = [i for i in range(layout.row_ids) if i != user.start and not likes.start <= i < likes.start + likes.width]
    age, bid = examples.floats[:, 0], examples.floats[:, 1]
    expected = weights[examples.ids[:, wide]].sum(axis=1) + model.bias.numpy()
    expected += age * model.wide.request_floats.numpy()[0] + bid * model.wide.candidate_floats.numpy()[0]
    logits = model.logits(flat_inputs(layout, tf.constant(examples.ids), tf.constant(examples.floats)))
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_a_repeated_row_of_a_gradient_is_summed_and_padding_is_zero() -> None:
    gradient = tf.IndexedSlices(
        tf.constant([[1.0], [2.0], [4.0], [8.0]]), tf.constant([5, 0, 5, 2]), dense_shape=tf.constant([9, 1])
    )
    rows, sums = sum_by_row(gradient)
    assert dict(zip(rows.numpy().tolist(), sums.numpy()[:, 0].tolist(), strict=True)) == {5: 5.0, 0: 0.0, 2: 8.0}


def test_one_step_is_ftrl_and_adagrad_as_published(spec: FeatureSpec) -> None:
    model = _model(spec)
    model.wide.weights.assign(tf.zeros_like(model.wide.weights))
    wide = FtrlConfig(learning_rate=0.5, initial_accumulator=0.25, l1=0.1, l2=0.2)
    deep = DeepConfig(learning_rate=0.1, embedding_learning_rate=0.3, initial_accumulator=0.5)
    optimizer = WideDeepOptimizer(model, wide, deep)
    before = {id(v): v.numpy().copy() for v in optimizer.trained}
    gradients: list[tf.Tensor | tf.IndexedSlices] = []
    for variable in optimizer.trained:
        if variable is model.wide.weights:
            gradients.append(tf.IndexedSlices(tf.constant([0.5, 0.25]), tf.constant([3, 3]), tf.shape(variable)))
        elif variable is model.embedding.table:
            gradients.append(tf.IndexedSlices(tf.ones([1, 4]), tf.constant([2]), tf.shape(variable)))
        else:
            gradients.append(tf.ones_like(variable))
    optimizer.apply(gradients, tf.constant(2.0))
    # FTRL with g = (0.5 + 0.25) × 2: n = 0.25 + g², z = g, w = -(z - l1) / (√n / rate + 2 l2).
    n = 0.25 + 1.5**2
    assert model.wide.weights.numpy()[3] == pytest.approx(-(1.5 - 0.1) / (n**0.5 / 0.5 + 2 * 0.2), rel=1e-5)
    assert np.count_nonzero(model.wide.weights) == 1
    # AdaGrad: the table's gradient is a sum over the batch, a dense layer's a mean.
    moved = before[id(model.embedding.table)] - model.embedding.table.numpy()
    np.testing.assert_allclose(moved[2], 0.3 * 2 / (0.5 + 4) ** 0.5, rtol=1e-5)
    assert np.count_nonzero(moved) == 4
    moved = before[id(model.deep.first_bias)] - model.deep.first_bias.numpy()
    np.testing.assert_allclose(moved, 0.1 / (0.5 + 1) ** 0.5, rtol=1e-4)


@pytest.mark.parametrize("penalty", [0.0, 3.0])
def test_ftrl_keeps_the_value_at_which_a_weight_begins(spec: FeatureSpec, penalty: float) -> None:
    model = LogisticRegression(Layout(spec))
    model.bias.assign(-5.5)
    optimizer = WideDeepOptimizer(model, FtrlConfig(l1=penalty, l2=penalty), DeepConfig())
    for gradient in (0.0, 0.001):
        optimizer.apply([tf.fill(v.shape, gradient) for v in optimizer.trained], tf.constant(1.0))
        # The penalties act on the way from this value: they are zero at it.
        assert model.bias.numpy() == pytest.approx(-5.5, abs=1e-3)


@pytest.mark.parametrize("examples", [1.0, 1000.0])
def test_a_weight_moves_with_the_root_of_the_steps_if_gradients_agree(spec: FeatureSpec, examples: float) -> None:
    model, rate, steps = LogisticRegression(Layout(spec)), 0.05, 100
    optimizer = WideDeepOptimizer(model, FtrlConfig(learning_rate=rate, initial_accumulator=1e-9), DeepConfig())
    for _ in range(steps):
        optimizer.apply([tf.fill(v.shape, 0.5) for v in optimizer.trained], tf.constant(examples))
    # The sum of 1 / √k for k from 1 to n is 2 √n - 1.46, up to 1 / (2 √n).
    assert model.bias.numpy() == pytest.approx(-rate * (2 * steps**0.5 - 1.46), abs=rate / steps**0.5)


def test_a_run_begins_at_the_click_rate_of_its_records(
    tmp_path: Path, spec: FeatureSpec, config: TrainingConfig, examples: Examples
) -> None:
    # As after sampling: the rate of these records counts, and not that of the log.
    clicks = np.flatnonzero(examples.labels)
    kept = np.sort(np.concatenate([clicks[:6], np.flatnonzero(examples.labels == 0)[:300]]))
    some = Examples(examples.ids[kept], examples.floats[kept], examples.labels[kept])
    manifest = write_records([some], tmp_path, spec, negative_sampling_rate=0.5)
    still = {"model": LogisticRegressionConfig(), "wide": FtrlConfig(learning_rate=1e-9)}
    model, _ = train_records(tmp_path, manifest, spec, config.model_copy(update=still))
    assert isinstance(model, LogisticRegression)
    assert model.bias.numpy() == pytest.approx(np.log(6.5 / 300.5), abs=1e-5)


def test_training_learns_keeps_padding_and_repeats_itself(
    tmp_path: Path, spec: FeatureSpec, config: TrainingConfig, log: Path, encoder: Encoder
) -> None:
    (examples,) = encode_log(read_log(log), encoder, chunk=10**6)
    split = 4500
    manifest = write_records(
        [Examples(examples.ids[:split], examples.floats[:split], examples.labels[:split])], tmp_path, spec
    )

    def trained() -> WideDeep:
        model = WideDeep(Layout(spec), [16, 8], seed=config.seed)
        data = batches(tmp_path, manifest, config.batch_size, epochs=4, shuffle_buffer=split, seed=config.seed)
        result = train(model, spec, data, config)
        assert (result.examples, result.steps) == (4 * split, -(-4 * split // config.batch_size))
        assert result.loss < 0.55
        return model

    model = trained()
    ctr = predict(model, spec, examples.ids[split:], examples.floats[split:], batch_size=400)
    labels = examples.labels[split:]
    # The share of (click, no click) pairs in the right order; the truth has 0.79.
    assert np.mean(ctr[labels == 1][:, None] > ctr[labels == 0][None, :]) > 0.7
    assert np.all(model.embedding.table.numpy()[0] == 0)
    assert model.wide.weights.numpy()[0] == 0
    for first, second in zip(_snapshot(model), _snapshot(trained()), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)


def test_a_loss_that_is_not_finite_stops(spec: FeatureSpec, config: TrainingConfig, examples: Examples) -> None:
    floats = examples.floats.copy()
    floats[3, 0] = np.nan
    labels = examples.labels.astype(np.float32)
    data = tf.data.Dataset.from_tensors((examples.ids, floats, labels))
    with pytest.raises(DataError, match="no longer finite"):
        train(WideDeep(Layout(spec), [4]), spec, data, config)


def test_no_batches_are_rejected(spec: FeatureSpec, config: TrainingConfig, examples: Examples) -> None:
    none = tf.data.Dataset.from_tensors((examples.ids, examples.floats, examples.labels.astype(np.float32))).take(0)
    with pytest.raises(DataError, match="no examples"):
        train(WideDeep(Layout(spec), [4]), spec, none, config)
