"""A new model keeps the weights of the features that it shares with another model."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from model_training.checkpoints import save_model
from model_training.config.training import FtrlConfig, TrainingConfig
from model_training.data.click_log import encode_log, read_log
from model_training.data.manifest import Manifest, Shard
from model_training.data.training_data import split_log
from model_training.distributed.cluster import Cluster
from model_training.distributed.parameter_servers.first_checkpoint import write_first_checkpoint
from model_training.distributed.parameter_servers.steps import training_graph
from model_training.distributed.parameter_servers.variables import restore
from model_training.distributed.run import Run
from model_training.errors import ConfigError
from model_training.export.saved_model import export
from model_training.identity import RunIdentity
from model_training.models.build import build_model
from model_training.models.model import Model
from model_training.parts.inputs import flat_inputs
from model_training.training.optimizers import WideDeepOptimizer
from model_training.training.single_process import train_records
from model_training.training.source import Source
from model_training.training.warm_start import Start
from streamer.features import Encoder, FeatureSpec, Layout
from tests.model_training.conftest import SPEC, claim, click_log

pytestmark = pytest.mark.tensorflow


def config_of(kind: str = "wide_deep") -> TrainingConfig:
    model = {"kind": kind} if kind == "logistic_regression" else {"kind": kind, "hidden_units": [8, 4]}
    return TrainingConfig.model_validate({"spec": "unused", "model": model, "batch_size": 30})


def _changed(change: Callable[[dict[str, Any]], object]) -> FeatureSpec:
    content = copy.deepcopy(SPEC)
    features: list[dict[str, Any]] = content["features"]  # type: ignore[assignment]
    change({f["name"]: f for f in features} | {"": content})
    return FeatureSpec.from_mapping(content)


def random_model(config: TrainingConfig, spec: FeatureSpec) -> Model:
    """A model in which only padding is zero."""
    model, rng = build_model(config, spec), np.random.default_rng(4)
    tables = {id(table) for table in model.tables}
    for variable in model.trainable_variables:
        values = rng.normal(scale=0.3, size=variable.shape).astype(np.float32)
        if id(variable) in tables:
            values[0] = 0
        variable.assign(values)
    return model


def _logits(model: Model, spec: FeatureSpec, log: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    (examples,) = encode_log(read_log(log, last=40), Encoder(spec))
    inputs = flat_inputs(Layout(spec), tf.constant(examples.ids), tf.constant(examples.floats))
    return np.asarray(model.logits(inputs))


def opened(path: Path, spec: FeatureSpec) -> Start:
    return Start.open(Source.find(path), spec)


def started(
    start: Start, config: TrainingConfig, spec: FeatureSpec, *, rate: float = 1.0
) -> tuple[Model, WideDeepOptimizer]:
    model = build_model(config, spec)
    optimizer = WideDeepOptimizer(model, config.wide, config.deep)
    start.fill(model, optimizer, config.wide, sampling_rate=rate)
    return model, optimizer


def manifest_of(spec: FeatureSpec, sha256: str = "0") -> Manifest:
    return Manifest("small", spec.hash, 9, 1, 1, 1, 1.0, (Shard("a", 9, 1, sha256),), "", 64)


def run_of(model: Model, config: TrainingConfig, spec: FeatureSpec, folder: Path, data: Path = Path("absent")) -> Path:
    """A folder of checkpoints whose best model is `model`."""
    claim(folder, RunIdentity.of(config, spec, data, manifest_of(spec, "1")))
    save_model(model, str(folder / "ckpt-1"))
    tf.compat.v1.train.update_checkpoint_state(str(folder), str(folder / "ckpt-1"))
    return folder


@pytest.mark.parametrize("kind", ["wide_deep", "deepfm", "dcn", "logistic_regression"])
def test_the_order_of_the_features_does_not_matter(kind: str, tmp_path: Path, spec: FeatureSpec, log: Path) -> None:
    """Every row, and every input of a dense layer, has another place in the new model."""
    config = config_of(kind)
    model = random_model(config, spec)
    other = _changed(lambda f: f[""]["features"].reverse())
    assert other.hash != spec.hash
    start = opened(run_of(model, config, spec, tmp_path / "run"), other)
    moved, _ = started(start, config, other)
    np.testing.assert_allclose(_logits(moved, other, log), _logits(model, spec, log), atol=1e-5)
    (line,) = start.lines(config, other)
    assert "kept: tags_x_ad, hour_x_ad, size, bid, ad, age, hour, likes, tags, user" in line


def test_features_are_kept_dropped_and_new(tmp_path: Path, spec: FeatureSpec, log: Path) -> None:
    config = config_of()
    model = random_model(config, spec)

    def change(features: dict[str, Any]) -> None:
        features["user"]["buckets"] = 60
        features["age"] |= {"mean": 35, "std": 9}  # statistics of a newer log
        features["ad"] |= {"wide": False, "path": "ad.id"}
        features[""]["features"].remove(features["size"])
        new = {"name": "app", "path": "app", "side": "context", "kind": "categorical", "buckets": 9, "deep": True}
        features[""]["features"].insert(0, new)

    other = _changed(change)
    start = opened(run_of(model, config, spec, tmp_path / "run"), other)
    lines = list(start.lines(config, other))
    assert "kept: tags, likes, hour, age, ad, bid, hour_x_ad, tags_x_ad" in lines[0]
    assert lines[1:] == [
        "feature app is new and starts fresh",
        "feature user has other ids and starts fresh",
        "feature size is dropped",
    ]
    moved, _ = started(start, config, other)
    fresh = build_model(config, other)
    rows = {
        name: {c.feature.name: slice(c.offset, c.offset + c.rows) for ids in Layout(s).ids.values() for c in ids}
        for name, s in (("old", spec), ("new", other))
    }
    ours, theirs, first = ({v.name: v.numpy() for v in m.trainable_variables} for m in (moved, model, fresh))
    for feature in ("tags", "likes", "hour", "ad"):
        old, new = rows["old"][feature], rows["new"][feature]
        np.testing.assert_array_equal(ours["deep/embedding_table:0"][new], theirs["deep/embedding_table:0"][old])
    for feature in ("user", "app"):
        new = rows["new"][feature]
        np.testing.assert_array_equal(ours["deep/embedding_table:0"][new], first["deep/embedding_table:0"][new])
    np.testing.assert_array_equal(ours["deep/kernel_1:0"], theirs["deep/kernel_1:0"])
    # The request's inputs: app and user are fresh, and fields of one value come first.
    kernel = ours["deep/request_kernel:0"]
    np.testing.assert_array_equal(kernel[:8], first["deep/request_kernel:0"][:8])
    np.testing.assert_array_equal(kernel[8:], theirs["deep/request_kernel:0"][4:])


def test_tables_of_several_dimensions_keep_their_rows(tmp_path: Path, log: Path) -> None:
    """The table of a dimension has another name in the new model, because a lower dimension is added."""

    def old(features: dict[str, Any]) -> None:
        features["ad"]["embedding_dim"] = 6
        features["likes"] |= {"shares": "tags"}
        del features["likes"]["buckets"]
        features["age"]["missing_indicator"] = True

    def new(features: dict[str, Any]) -> None:
        old(features)
        features[""]["features"].reverse()
        features["hour"]["embedding_dim"] = 2

    before, after, config = _changed(old), _changed(new), config_of()
    model = random_model(config, before)
    start = opened(run_of(model, config, before, tmp_path / "run"), after)
    moved, _ = started(start, config, after)
    # The hour's embedding is another one; without its share both models have equal logits.
    for each, spec in ((model, before), (moved, after)):
        dim, width = spec.dim(next(f for f in spec.features if f.name == "hour")), Layout(spec)  # type: ignore[arg-type]
        table = next(t for t in each.tables if len(t.shape) > 1 and t.shape[1] == dim)
        hour = next(c for c in width.ids["request"] if c.feature.name == "hour")
        first = next(rows.start for rows in width.embedded if rows.dim == dim)
        values = table.numpy()
        values[hour.offset - first + 1 :][: hour.rows] = 0
        table.assign(values)
    np.testing.assert_allclose(_logits(moved, after, log), _logits(model, before, log), atol=1e-5)


def test_weights_without_slots_outlast_the_first_step(tmp_path: Path, spec: FeatureSpec, log: Path) -> None:
    """FTRL computes a weight from its slots: with fresh ones a step would bring every weight near zero."""
    config = config_of("logistic_regression")
    config = config.model_copy(update={"wide": FtrlConfig(l1=0.1, l2=0.3)})
    model = random_model(config, spec)
    start = opened(export(model, spec, tmp_path / "ctr", 1), spec)
    moved, optimizer = started(start, config, spec)
    np.testing.assert_allclose(_logits(moved, spec, log), _logits(model, spec, log), atol=1e-6)
    optimizer.apply([tf.zeros_like(variable) for variable in optimizer.trained], tf.constant(1.0))
    for ours, theirs in zip(moved.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5, err_msg=ours.name)


@pytest.mark.slow
def test_slots_are_kept_with_their_rows(tmp_path: Path, spec: FeatureSpec, log: Path) -> None:
    config = config_of().model_copy(update={"deterministic": True})
    data = split_log(log, tmp_path / "records", spec, holdout=0.97)
    run = tmp_path / "run"
    model, _ = train_records(data.directory, data.manifest, spec, config, checkpoints=run)
    other = _changed(lambda f: f[""]["features"].reverse())
    start = opened(run, other)
    moved, optimizer = started(start, config, other)
    np.testing.assert_allclose(_logits(moved, other, log), _logits(model, spec, log), atol=1e-5)
    slots = {slot.name: slot.numpy() for group in optimizer.slots for slot in group}
    hours = {s.hash: next(c for c in Layout(s).ids["request"] if c.feature.name == "hour") for s in (spec, other)}
    old, new = hours[spec.hash], hours[other.hash]
    learnt = (slots["deep/embedding_table/accumulator:0"][new.offset : new.offset + new.rows] > 0.1).any(axis=1)
    seen = {int(i) - old.offset for i in data.training().ids[:, old.start]}
    assert set(np.flatnonzero(learnt).tolist()) == seen
    # A new run in its own folder records from which model it began.
    again, _ = train_records(
        data.directory, data.manifest, spec, config, checkpoints=tmp_path / "next", start=opened(run, spec)
    )
    assert not np.allclose(_logits(again, spec, log), _logits(model, spec, log), atol=1e-3)
    with pytest.raises(ConfigError, match=r'holds another run: start\.sha256 "\w+" instead of none'):
        train_records(data.directory, data.manifest, spec, config, checkpoints=tmp_path / "next")


def test_a_kept_feature_with_a_fresh_embedding_is_named(tmp_path: Path, spec: FeatureSpec) -> None:
    other = _changed(lambda f: (f["hour_x_ad"].update(deep=True), f["ad"].update(embedding_dim=8)))
    start = opened(run_of(random_model(config_of(), spec), config_of(), spec, tmp_path / "run"), other)
    lines = list(start.lines(config_of(), other))
    for name in ("hour_x_ad", "ad"):
        assert f"feature {name} keeps its other weights, but its embedding starts fresh" in lines
    assert sum("its embedding" in line for line in lines) == 2


@pytest.mark.parametrize("kind", ["wide_deep", "logistic_regression"])
def test_the_bias_moves_to_the_click_rate_of_other_sampling(kind: str, tmp_path: Path, spec: FeatureSpec) -> None:
    """A tenth of the non-clicks makes the odds of a click ten times as high; the exported score must stay the same."""
    config = config_of(kind)
    model = random_model(config, spec)
    start = opened(run_of(model, config, spec, tmp_path / "run"), spec)
    assert (start.sampling_rate, list(start.lines_on_rate(0.1))) == (1, [])
    moved, optimizer = started(start, config, spec, rate=0.1)
    np.testing.assert_allclose(moved.bias.numpy(), model.bias.numpy() + np.log(10), atol=1e-5)  # type: ignore[attr-defined]
    optimizer.apply([tf.zeros_like(variable) for variable in optimizer.trained], tf.constant(1.0))
    np.testing.assert_allclose(moved.bias.numpy(), model.bias.numpy() + np.log(10), atol=1e-5)  # type: ignore[attr-defined]
    unknown = opened(export(model, spec, tmp_path / "ctr", 1), spec)
    (line,) = unknown.lines_on_rate(0.1)
    assert "is not known, and these records have 0.1 of them: the bias is kept as it is" in line
    assert list(unknown.lines_on_rate(1.0)) == []


def test_a_changed_dense_layer_starts_fresh_with_a_line(tmp_path: Path, spec: FeatureSpec) -> None:
    model = random_model(config_of(), spec)
    wider = TrainingConfig.model_validate({"spec": "unused", "model": {"kind": "wide_deep", "hidden_units": [8, 5]}})
    start = opened(run_of(model, config_of(), spec, tmp_path / "run"), spec)
    assert set(list(start.lines(wider, spec))[1:]) == {
        f"variable {name} {new} starts fresh: it was {old}, or has other inputs"
        for name, new, old in (
            ("deep/kernel_1", [8, 5], [8, 4]),
            ("deep/bias_1", [5], [4]),
            ("deep/output_kernel", [5, 1], [4, 1]),
        )
    }


@pytest.mark.slow
def test_parameter_servers_restore_the_first_values(tmp_path: Path, spec: FeatureSpec) -> None:
    config = config_of().with_distributed({"table_shards": 3})
    model = random_model(config, spec)
    cluster = Cluster(("h:1",), "h:2")
    start = opened(run_of(model, config, spec, tmp_path / "run"), spec)
    data = split_log(click_log(tmp_path / "log.jsonl", 10), tmp_path / "records", spec)
    run = Run(cluster, cluster.computing[0], config, spec, data.directory, data.manifest, tmp_path, start.source)
    write_first_checkpoint(run, start)
    merged = build_model(config, spec)
    restore(merged, str(tmp_path / "model.ckpt-0"))
    for ours, theirs in zip(merged.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.name)
    with tf.Graph().as_default():
        training_graph(run, None)
        wanted = {v.op.name: v.shape.as_list() for v in tf.compat.v1.global_variables()}
    found = dict(tf.train.list_variables(str(tmp_path / "model.ckpt-0")))
    assert {name: found.get(name) for name in wanted} == wanted
    # A run with parameter servers can itself be the start of another one.
    write = Run(cluster, cluster.computing[0], config, spec, data.directory, data.manifest, tmp_path / "ps")
    claim(write.checkpoints, write.identity)
    for file in tmp_path.glob("model.ckpt-0*"):
        file.rename(write.checkpoints / file.name)
    tf.compat.v1.train.update_checkpoint_state(str(write.checkpoints), str(write.checkpoints / "model.ckpt-0"))
    again, _ = started(opened(write.checkpoints, spec), config, spec)
    for ours, theirs in zip(again.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.name)
