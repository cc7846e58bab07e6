"""Where the model of a warm start is, what it has seen, and that a run continues without it."""

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import tensorflow as tf

from model_training.checkpoints import save_model
from model_training.commands.role import find_start
from model_training.data.manifest import write_manifest
from model_training.data.prepared import Prepared, SplitManifest
from model_training.errors import ConfigError, DataError
from model_training.export.saved_model import export
from model_training.identity import RunIdentity, checksum
from model_training.lineage.lineage import Rows
from model_training.training.source import Source
from model_training.training.warm_start import Start
from streamer.features import FeatureSpec
from tests.model_training.conftest import claim
from tests.model_training.training.test_warm_start import config_of, manifest_of, opened, random_model, run_of, started

pytestmark = pytest.mark.tensorflow


def test_the_rows_that_a_model_has_seen_stay_known(tmp_path: Path, spec: FeatureSpec) -> None:
    """A run that begins with a model has seen the rows of that model: the gate must not judge it on them."""
    config, run = config_of("logistic_regression"), tmp_path / "run"
    first, data = manifest_of(spec, "1"), tmp_path / "data"
    data.mkdir()
    write_manifest(data, Prepared({}, 9, {}, 0, {}, None, None, {"train": SplitManifest(first, 5, 8)}))
    run_of(random_model(config, spec), config, spec, run, data=data)
    source = Source.find(run)
    seen = Rows(str(checksum(first)["sha256"]), 9, 1, 5, 8)
    assert source.seen() == (seen,)
    second = RunIdentity.of(config, spec, tmp_path, manifest_of(spec, "2"), **source.for_run)
    claim(tmp_path / "next", second)
    assert second.content["seen"][1] == asdict(seen)
    other = export(random_model(config, spec), spec, tmp_path / "ctr", 1)
    assert Source.find(other).seen() is None
    third = RunIdentity.of(config, spec, tmp_path, manifest_of(spec, "2"), **Source.find(other).for_run)
    assert third.content["seen"] is None


def test_a_run_continues_without_the_model_with_which_it_began(tmp_path: Path, spec: FeatureSpec) -> None:
    config, run, old = config_of("logistic_regression"), tmp_path / "next", tmp_path / "old"
    model = random_model(config, spec)
    run_of(model, config, spec, old)
    identity = RunIdentity.of(config, spec, tmp_path, manifest_of(spec, "2"), **Source.find(old).for_run)
    claim(run, identity)
    # Without a checkpoint the run needs its first model.
    assert Source.recorded(old, run) is None
    tf.compat.v1.train.update_checkpoint_state(str(run), str(run / "ckpt-1"))
    save_model(model, str(run / "ckpt-1"))
    assert Source.recorded(tmp_path / "other", run) is None
    shutil.rmtree(old)
    source = find_start(old, run)
    assert source is not None
    again = RunIdentity.of(config, spec, tmp_path, manifest_of(spec, "2"), **source.for_run)
    assert again.content == identity.content
    start = Start.open(source, spec)
    assert list(start.lines(config, spec)) == [f"continues a run that began with the weights of {old}"]
    # A final fit begins with that model, too.
    with pytest.raises(ConfigError, match="neither an exported version nor a folder of checkpoints"):
        started(start, config, spec)
    run_of(random_model(config_of(), spec), config, spec, old)
    with pytest.raises(DataError, match="is no longer the model with which this run began"):
        started(start, config, spec)


def test_what_is_no_model_is_one_line(tmp_path: Path, spec: FeatureSpec) -> None:
    with pytest.raises(ConfigError, match="neither an exported version nor a folder of checkpoints"):
        opened(tmp_path, spec)
    (tmp_path / "run.json").write_text('{"spec": "1", "model": {}, "table_shards": null}', encoding="utf-8")
    with pytest.raises(ConfigError, match="another version of this program"):
        opened(tmp_path, spec)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(DataError, match=r"variables\.index: cannot be read"):
        opened(tmp_path, spec)
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "variables.index").write_bytes(b"")
    with pytest.raises(DataError, match="its feature spec cannot be read") as caught:
        opened(tmp_path, spec)
    assert "\n" not in str(caught.value)
