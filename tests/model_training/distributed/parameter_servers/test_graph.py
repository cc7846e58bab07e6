"""A model in shards and its optimizer equal those of a single process; all in one session."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from model_training.config.training import TrainingConfig
from model_training.data.click_log import encode_log, read_log
from model_training.data.examples import Examples
from model_training.distributed.parameter_servers.optimizer import CompositeOptimizer
from model_training.distributed.parameter_servers.synchronous_update import SynchronousUpdate
from model_training.distributed.parameter_servers.variables import (
    GreedyStrategy,
    PartitionedVariables,
    bytes_by_variable,
    gradients_of,
    restore,
    restored_without_tables,
    rules_of,
)
from model_training.errors import DataError
from model_training.export.saved_model import export, model_size
from model_training.export.servable import Servable
from model_training.export.versions import fault_of
from model_training.models.build import build_model
from model_training.models.model import Model
from model_training.parts.inputs import flat_inputs
from model_training.training.optimizers import WideDeepOptimizer
from model_training.training.prediction import predict
from model_training.training.schedule import Clock
from model_training.training.step import loss_and_gradients, losses
from streamer.features import Encoder, FeatureSpec, Layout
from tests.model_training.distributed.parameter_servers.in_process import graph_of, started

pytestmark = pytest.mark.tensorflow

_LOG_ODDS = -3.0
_SETTINGS = {
    "clip_norm": 0.05,
    "deep": {"optimizer": "adam", "l2": 0.01, "schedule": {"warmup_share": 0.5, "decay": "cosine"}},
}
_KINDS = pytest.mark.parametrize("kind", ["wide_deep", "xdeepfm", "logistic_regression"])


def _config(kind: str, **settings: object) -> TrainingConfig:
    model = {"kind": kind} if kind == "logistic_regression" else {"kind": kind, "hidden_units": [8, 4]}
    parts = {"wide": {"l1": 0.1, "l2": 0.2}, **settings}
    return TrainingConfig.model_validate(
        {"spec": "unused", "model": model, "seed": 3, "distributed": {"table_shards": 5}, **parts}
    )


def _clock(made: Callable[[], tf.Tensor]) -> Clock:
    return Clock(lambda: tf.cast(made(), tf.float32), total=10)


@pytest.fixture
def examples(log: Path, encoder: Encoder) -> Examples:
    (encoded,) = encode_log(read_log(log, last=20), encoder)
    return encoded


@dataclass(frozen=True, slots=True)
class _Graph:
    """A sharded model in training, with fed inputs."""

    session: tf.compat.v1.Session
    inputs: tuple[tf.Tensor, tf.Tensor, tf.Tensor]
    logits: tf.Tensor
    update: tf.Operation

    def learn(self, examples: Examples, rows: slice) -> None:
        self.session.run(self.update, self.feed(examples, rows))

    def feed(self, examples: Examples, rows: slice) -> dict[tf.Tensor, object]:
        values = (examples.ids[rows], examples.floats[rows], examples.labels[rows])
        return dict(zip(self.inputs, values, strict=True))

    def save(self, path: Path) -> str:
        with self.session.graph.as_default():
            saver = tf.compat.v1.train.Saver()
            return str(saver.save(self.session, str(path / "model.ckpt"), write_meta_graph=False))


class _Parts:
    """The model, its loss and gradients in the graph under construction."""

    def __init__(self, config: TrainingConfig, spec: FeatureSpec) -> None:
        layout = Layout(spec)
        self.step = tf.compat.v1.train.get_or_create_global_step()
        create = PartitionedVariables(config.distributed.table_shards)
        model = build_model(config, spec, log_odds=_LOG_ODDS, create=create)
        ids = tf.compat.v1.placeholder(tf.int32, [None, layout.row_ids])
        floats = tf.compat.v1.placeholder(tf.float32, [None, layout.row_floats])
        labels = tf.compat.v1.placeholder(tf.float32, [None])
        self.inputs = (ids, floats, labels)
        self.logits = model.logits(flat_inputs(layout, ids, floats))
        _, minimised = losses(model, layout, self.inputs, deep=config.deep, seed=tf.constant([0, 0]))
        made = self.step.read_value()
        self.rules = rules_of(model, config, _clock(lambda: made))
        self.padded = [table[0].op.name for table in model.tables]
        self.gradients = gradients_of(minimised, model)


@contextmanager
def _graph(config: TrainingConfig, spec: FeatureSpec, batch_size: int) -> Iterator[_Graph]:
    """One process that applies its own gradients."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        parts = _Parts(config, spec)
        optimizer = CompositeOptimizer(
            parts.rules, padded=parts.padded, batch_size=batch_size, clip_norm=config.clip_norm
        )
        update = optimizer.apply_gradients(parts.gradients, parts.step)
        session.run(tf.compat.v1.global_variables_initializer())
        yield _Graph(session, parts.inputs, parts.logits, update)


@contextmanager
def _gathering(config: TrainingConfig, spec: FeatureSpec, batch_size: int, *, computing: int) -> Iterator[list[_Graph]]:
    """Processes with common updates on two parameter servers; the chief is first."""
    cluster, servers = started(servers=2, computing=computing)
    members, hooks, coordinator = [], [], tf.train.Coordinator()
    for task in cluster.computing:
        with graph_of(cluster, task):
            parts = _Parts(config, spec)
            gathering = SynchronousUpdate(cluster, task, parts.gradients, parts.step, aggregated=computing)
            session = tf.compat.v1.Session(servers[task].target)
            if task.role == "chief":
                taken, count = gathering.taken()
                optimizer = CompositeOptimizer(
                    parts.rules,
                    padded=parts.padded,
                    batch_size=batch_size,
                    contributions=count,
                    clip_norm=config.clip_norm,
                )
                hooks.append(gathering.applying(optimizer.apply_gradients(taken, parts.step)))
                session.run(tf.compat.v1.global_variables_initializer())
            session.run(tf.compat.v1.local_variables_initializer())
            members.append(_Graph(session, parts.inputs, parts.logits, gathering.ended))
    for hook in hooks:
        hook.after_create_session(members[0].session, coordinator)
    try:
        yield members
    finally:
        coordinator.request_stop()
        for member in members:
            member.session.close()


def _single_steps(config: TrainingConfig, spec: FeatureSpec, examples: Examples, *batches: slice) -> Model:
    """The steps of a single process."""
    model = build_model(config, spec, log_odds=_LOG_ODDS)
    made = tf.Variable(0)
    clock = _clock(made.read_value)
    optimizer = WideDeepOptimizer(model, config.wide, config.deep, clip_norm=config.clip_norm, clock=clock)
    for rows in batches:
        labels = tf.constant(examples.labels[rows], tf.float32)
        batch = tf.constant(examples.ids[rows]), tf.constant(examples.floats[rows]), labels
        _, gradients = loss_and_gradients(
            model, Layout(spec), optimizer.trained, batch, deep=config.deep, seed=tf.constant([0, 0])
        )
        optimizer.apply(gradients, tf.cast(tf.size(labels), tf.float32))
        made.assign_add(1)
    return model


def _assert_equal(one: Model, other: Model) -> None:
    for a, b in zip(one.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-5, err_msg=a.name)


@_KINDS
def test_a_model_in_shards_scores_like_the_whole_one_and_merges_into_it(
    kind: str, tmp_path: Path, spec: FeatureSpec, examples: Examples
) -> None:
    config = _config(kind)
    whole = build_model(config, spec, log_odds=_LOG_ODDS)
    inputs = flat_inputs(Layout(spec), tf.constant(examples.ids), tf.constant(examples.floats))
    with _graph(config, spec, 10) as graph:
        logits = graph.session.run(graph.logits, graph.feed(examples, slice(None)))
        saved = graph.save(tmp_path)
    np.testing.assert_allclose(logits, whole.logits(inputs), atol=1e-5)
    merged = build_model(config.model_copy(update={"seed": 4}), spec)
    restore(merged, saved)
    _assert_equal(merged, whole)


@pytest.mark.parametrize(
    "config",
    [
        _config("wide_deep"),
        _config("logistic_regression"),
        pytest.param(_config("xdeepfm"), marks=pytest.mark.slow),
        pytest.param(_config("wide_deep", **_SETTINGS), marks=pytest.mark.slow),
    ],
    ids=["wide_deep", "logistic_regression", "xdeepfm", "settings"],
)
def test_steps_of_one_worker_equal_those_of_a_single_process(
    config: TrainingConfig, tmp_path: Path, spec: FeatureSpec, examples: Examples
) -> None:
    batches = slice(0, 30), slice(30, 60)
    with _graph(config, spec, 30) as graph:
        for rows in batches:
            graph.learn(examples, rows)
        saved = graph.save(tmp_path)
    merged = build_model(config, spec)
    restore(merged, saved)
    _assert_equal(merged, _single_steps(config, spec, examples, *batches))


@pytest.mark.slow
def test_a_step_of_three_workers_equals_that_of_a_single_process_with_one_batch(
    tmp_path: Path, spec: FeatureSpec, examples: Examples
) -> None:
    config = _config("wide_deep", **_SETTINGS)
    # Pending reads are released before the threads are joined.
    with ThreadPoolExecutor(3) as threads, _gathering(config, spec, 20, computing=3) as members:
        # Each run ends when the common step of all three is applied.
        runs = [
            threads.submit(member.learn, examples, slice(at, at + 20))
            for member, at in zip(members, (0, 20, 40), strict=True)
        ]
        for run in runs:
            run.result(timeout=60)
        saved = members[0].save(tmp_path)
    merged = build_model(config, spec)
    restore(merged, saved)
    _assert_equal(merged, _single_steps(config, spec, examples, slice(0, 60)))


@pytest.mark.parametrize("kind", ["logistic_regression", pytest.param("wide_deep", marks=pytest.mark.slow)])
def test_the_export_of_tables_in_shards_equals_that_of_whole_tables(
    kind: str, tmp_path: Path, spec: FeatureSpec, examples: Examples
) -> None:
    config = _config(kind)
    with _graph(config, spec, 10) as graph:
        graph.learn(examples, slice(0, 10))
        saved = graph.save(tmp_path)
    model, tables = restored_without_tables(config, spec, saved)
    assert [table.shape[0] for table in model.tables] == [None] * len(tables)
    version = export(model, spec, tmp_path / "shards", 1, tables=tables)
    assert fault_of(version) is None
    merged = build_model(config, spec)
    restore(merged, saved)
    whole = export(merged, spec, tmp_path / "whole", 1)
    one, other = (tf.train.load_checkpoint(str(path / "variables" / "variables")) for path in (version, whole))
    shapes = other.get_variable_to_shape_map()
    assert one.get_variable_to_shape_map() == shapes
    for name in shapes:
        if name.endswith("VARIABLE_VALUE"):
            np.testing.assert_array_equal(one.get_tensor(name), other.get_tensor(name), err_msg=name)
    sizes = model_size(model, version, tables), model_size(merged, whole)
    assert len({(s.dense_parameters, s.embedding_parameters, s.wide_parameters) for s in sizes}) == 1
    scores = predict(merged, spec, examples.ids, examples.floats)
    np.testing.assert_allclose(Servable.load(version).scores(examples.ids, examples.floats), scores, atol=1e-6)


def test_bytes_include_slots_and_every_server_gets_its_share(spec: FeatureSpec) -> None:
    config, layout = _config("wide_deep"), Layout(spec)
    sizes = bytes_by_variable(config, spec)
    wide = [size for name, size in sizes.items() if name.startswith("wide/weights/part_")]
    deep = [size for name, size in sizes.items() if name.startswith("deep/embedding_table/part_")]
    assert (len(wide), len(deep)) == (5, 5)
    assert sum(wide) == 4 * layout.table_rows * 3
    assert sum(deep) == 4 * layout.embedded_rows * 4 * 2
    strategy = GreedyStrategy(sizes, 2)
    with (
        tf.Graph().as_default(),
        tf.compat.v1.device(
            tf.compat.v1.train.replica_device_setter(
                cluster=tf.train.ClusterSpec({"ps": ["a:1", "b:1"], "chief": ["c:1"]}),
                worker_device="/job:chief/task:0",
                ps_strategy=strategy,
            )
        ),
    ):
        model = build_model(config, spec, create=PartitionedVariables(5))
        held = {"/job:ps/task:0": 0, "/job:ps/task:1": 0}
        for variable in model.trainable_variables:
            held[variable.device] += sizes.get(variable.op.name, 0)
    assert sum(held.values()) == sum(sizes.values())
    assert max(held.values()) / sum(held.values()) < 0.52


def test_a_checkpoint_of_another_model_is_rejected(tmp_path: Path, spec: FeatureSpec) -> None:
    with _graph(_config("logistic_regression"), spec, 10) as graph:
        saved = graph.save(tmp_path)
    with pytest.raises(DataError, match="has no variable 'deep/"):
        restore(build_model(_config("wide_deep"), spec), saved)
    with pytest.raises(DataError, match=r"variable 'wide/weights': has shape \[197\], but the model needs \[797\]"):
        restored_without_tables(_config("wide_deep"), spec, saved)
