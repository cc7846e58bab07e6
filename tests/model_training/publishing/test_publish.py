"""Publishing: a candidate becomes a visible version, or is rejected without a change."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
import pytest
import tensorflow as tf
import yaml
from tensorflow_serving.apis import predict_pb2
from typer.testing import CliRunner, Result

from model_training.commands import app
from model_training.commands.compared import name_broken
from model_training.data.click_log import encode_log, read_log
from model_training.data.manifest import write_manifest
from model_training.data.prepared import Prepared, SplitManifest
from model_training.data.records import write_records
from model_training.errors import ExportError
from model_training.export import versions
from model_training.export.saved_model import export
from model_training.export.servable import Servable
from model_training.export.served import Served
from model_training.export.versions import new_version, remove_old, versions_in
from model_training.export.warmup import WARMUP
from model_training.models.wide_deep import WideDeep
from model_training.publishing import publish as publishing
from model_training.publishing.card import Best
from model_training.publishing.version_labels import set_label
from sandbox.host.loopback import DIRECT
from sandbox.processes.model_server import ModelServerProcess
from streamer.features import Encoder, FeatureSpec, Layout
from tests.model_training.conftest import SPEC
from tests.model_training.export.test_versions import write_version

pytestmark = pytest.mark.tensorflow


def _model(spec: FeatureSpec, log: Path, *, knows: bool) -> WideDeep:
    """A model with the click rate of each hour and ad, or with the overall click rate."""
    examples = next(encode_log(read_log(log, last=1_000), Encoder(spec)))
    layout = Layout(spec)
    model = WideDeep(layout, [4], embedding_stddev=0.1)
    model.deep.output_kernel.assign(tf.zeros_like(model.deep.output_kernel))
    before = layout.id_width("request") + layout.id_width("candidate")
    (column,) = (c for c in layout.ids["pair"] if c.feature.name == "hour_x_ad")
    ids = examples.ids[:, before + column.start]
    clicks, shown = (np.bincount(ids, part, minlength=layout.table_rows) for part in (examples.labels, None))
    mean = examples.labels.mean()
    rate = (clicks + mean) / (shown + 1)
    weights = np.log(rate / (1 - rate)) - np.log(mean / (1 - mean))
    model.wide.weights.assign(np.where(knows & (shown > 0), weights, 0)[:, None].reshape(model.wide.weights.shape))
    model.bias.assign(np.full(model.bias.shape, np.log(mean / (1 - mean)), np.float32))
    return model


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory, spec: FeatureSpec, log: Path) -> tuple[Path, Path]:
    """Versions of a good model and of one that knows only the mean."""
    folder = tmp_path_factory.mktemp("candidates")
    good, poor = (
        export(_model(spec, log, knows=knows), spec, folder / name, 1)
        for name, knows in (("good", True), ("poor", False))
    )
    return good, poor


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _put(servable: Servable, base: Path, **options: Any) -> Path:
    """Publishes a candidate that was just compared with the newest version."""
    return publishing.publish(servable, base, {}, seen=versions.found_in(base), **options)[0]


def _listed(base: Path) -> list[str]:
    return sorted(path.name for path in base.iterdir())


def test_the_better_candidate_is_published_and_the_worse_one_rejected(
    tmp_path: Path, candidates: tuple[Path, Path], log: Path
) -> None:
    good, poor = candidates
    base, gate = tmp_path / "models" / "ctr", tmp_path / "gate.yaml"
    gate.write_text("max_score_drift: null\n", encoding="utf-8")
    options = ("--to", base, "--log", log, "--holdout", "0.2", "--user-path", "user.id", "--gate", gate)

    first = _run("publish", good, *options)
    assert first.exit_code == 0, first.output
    assert versions_in(base) == [1]
    card = orjson.loads((base / "1" / "model_card.json").read_bytes())
    assert card["spec"]["hash"] == FeatureSpec.from_mapping(SPEC).hash
    assert card["evaluation"]["estimates"]["auc"]["value"] > 0.6
    groups = {"users": 40, "requests": 400, "without_user": 0, "without_request": 0}
    assert card["evaluation"]["groups"] == groups, "of which some have the same row of the spec's 50 buckets"
    assert all(verdict["holds"] for verdict in card["gate"]["verdicts"])
    assert (card["forced"], card["gate"]["tries"], card["best"]["version"]) == (False, 1, 1)
    # A server loads the evaluated model, and the warm-up requests have the served name.
    assert Servable.load(base / "1").parameters == card["parameters"]
    warmup = next(iter(tf.data.TFRecordDataset(str(base / "1" / WARMUP)))).numpy()
    assert b"\x03ctr" in warmup

    report = tmp_path / "report.json"
    rejected = _run("publish", poor, *options, "--report", report, "--json")
    outcome = orjson.loads(rejected.stdout)
    assert outcome == {**orjson.loads(report.read_bytes()), "published": None, "removed": []}
    assert rejected.exit_code == 3, rejected.output
    assert "holds  min_clicks" in rejected.output
    assert "beyond max_auc_loss: AUC - that of version 1 (served)" in rejected.output
    assert "candidate 2 on these examples" in rejected.output
    assert "nothing is published" in rejected.output
    assert versions_in(base) == [1]
    assert not all(verdict["holds"] for verdict in orjson.loads(report.read_bytes())["gate"]["verdicts"])

    forced = _run("publish", poor, *options, "--force")
    assert forced.exit_code == 0, forced.output
    card = orjson.loads((base / "2" / "model_card.json").read_bytes())
    assert (card["forced"], card["gate"]["tries"], card["best"]["version"]) == (True, 2, 1)

    again = _run("publish", good, *options, "--keep", "2", "--json")
    assert orjson.loads(again.stdout)["published"] == str(base / "3")
    assert again.exit_code == 0, again.output
    assert "AUC - that of version 2 (served)" in again.output
    assert "AUC - that of version 1 (best of the window)" in again.output, "a forced version does not lower the bar"
    assert "removed versions" not in again.output
    assert versions_in(base) == [2, 3]
    assert versions_in(base / ".gate" / "best") == [1]

    compared = _run("evaluate", good, "--against", base, "--log", log, "--gate", gate, "--report", report, "--json")
    assert orjson.loads(compared.stdout) == orjson.loads(report.read_bytes())
    assert compared.exit_code == 0, compared.output
    evaluation = orjson.loads(report.read_bytes())
    assert evaluation["served"]["path"].endswith("/3")
    assert evaluation["groups"]["users"] is None
    assert set(evaluation["differences"]) == {"auc", "log_loss", "normalised_entropy", "calibration", "request_gauc"}
    assert "users are not known" in compared.output


def _no_drift(folder: Path) -> Path:
    """Limits of the gate that two very different models can keep."""
    (folder / "gate.yaml").write_text("max_score_drift: null\n", encoding="utf-8")
    return folder / "gate.yaml"


def _card(version: Path) -> dict[str, Any]:
    return orjson.loads((version / "model_card.json").read_bytes())  # type: ignore[no-any-return]


def test_a_damaged_best_version_is_named_and_the_next_one_is_the_bar(
    tmp_path: Path, candidates: tuple[Path, Path], log: Path
) -> None:
    good, poor = candidates
    base = tmp_path / "ctr"
    options = ("--to", base, "--log", log, "--holdout", "0.2", "--gate", _no_drift(tmp_path))
    _put(Servable.load(good), base)
    _put(Servable.load(poor), base, best=Best(1, datetime.now(UTC).isoformat()))
    (index,) = base.glob("1/variables/variables.data-*")
    index.write_bytes(b"damaged")
    better = _run("publish", good, *options, "--keep", "2")
    assert better.exit_code == 0, better.output
    said = "version 1 can no longer be the best of the window: "
    assert f"{said}{base / '1'}: cannot be loaded" in better.output
    card = _card(base / "3")
    assert (card["best"]["version"], card["evaluation"]["best"], len(card["skipped"])) == (3, None, 1)
    assert "can no longer be the best" not in _run("publish", good, *options).output
    for version in versions_in(base):
        (base / str(version) / "saved_model.pb").write_bytes(b"x")
    rejected = _run("publish", good, *options)
    assert rejected.exit_code == 2, rejected.output
    assert "none that works to compare with" in rejected.output
    forced = _run("publish", good, *options, "--force")
    assert forced.exit_code == 0, forced.output
    assert _card(base / str(versions_in(base)[-1]))["forced"]


def _prepared(folder: Path, log: Path, spec: FeatureSpec, rows: str, source: object = None) -> Path:
    """Prepared data with the log's last requests as the split `test`; `rows` is the checksum of each shard's rows."""
    manifest = write_records(encode_log(read_log(log, last=400), Encoder(spec)), folder, spec, shards=2)
    shards = tuple(replace(shard, rows=rows) for shard in manifest.shards)
    split = SplitManifest(replace(manifest, shards=shards), 0, 9)
    content = {"spec": "spec.yaml", "source": source or {"kind": "unknown"}, "shards": 2}
    write_manifest(folder, Prepared(content, 1200, {}, 0, {}, 0, 0, {"test": split}))
    return folder


@pytest.mark.slow
def test_a_best_version_whose_rows_cannot_be_encoded_is_skipped_only_if_they_never_can(
    tmp_path: Path, candidates: tuple[Path, Path], log: Path, spec: FeatureSpec
) -> None:
    good, poor = candidates
    base, other = tmp_path / "ctr", FeatureSpec.from_mapping(SPEC | {"embedding_dim": 5})
    now, gate = datetime.now(UTC).isoformat(), ("--gate", _no_drift(tmp_path))
    _put(Servable.load(export(_model(other, log, knows=True), other, tmp_path / "best", 1)), base)
    _put(Servable.load(poor), base, best=Best(1, now))
    # The rows of an old preparation have no checksums: another preparation can compare.
    old = _prepared(tmp_path / "old", log, spec, "")
    result = _run("publish", good, "--to", base, "--prepared", old, *gate)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "the best version of the window, 1, is not compared this time, and stays the best: " in said
    assert "without checksums of its rows: run prepare again" in said
    assert _card(base / "3")["best"]["version"] == 1
    # The log has no values for a feature.
    table = {"kind": "table", "format": "json", "paths": ["x"], "label": "c", "time": "t", "request": {}}
    without = _prepared(tmp_path / "without", log, spec, "same", table)
    result = _run("publish", good, "--to", base, "--prepared", without, "--also-prepared", old, *gate)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "version 1 can no longer be the best of the window: " in said
    assert "no expression for feature 'user' of spec 'small'" in said
    assert f"--also-prepared {old}: not used, because no compared version needs its spec" in said
    card = _card(base / "4")
    assert (card["best"]["version"], card["evaluation"]["served"]["path"]) == (3, str(base / "3"))


@pytest.mark.slow
def test_with_a_newest_version_that_fails_on_real_rows_the_next_older_one_is_compared(
    tmp_path: Path, candidates: tuple[Path, Path], log: Path, spec: FeatureSpec
) -> None:
    good, poor = candidates
    model, base = _model(spec, log, knows=True), tmp_path / "ctr"
    weights = model.wide.weights.numpy()
    weights[weights != 0] = np.nan
    model.wide.weights.assign(weights)
    options = ("--to", base, "--log", log, "--holdout", "0.2", "--gate", _no_drift(tmp_path))
    _put(Servable.load(export(model, spec, tmp_path / "nan", 1)), base)
    result = _run("publish", good, *options)
    assert result.exit_code == 2, result.output
    assert f"{base / '1'}: a score is not in [0, 1]; skipped" in " ".join(result.output.split())
    result = _run("publish", good, *options, "--force")
    assert result.exit_code == 0, result.output
    assert _card(base / "2")["forced"]
    _put(Servable.load(tmp_path / "nan" / "1"), base)
    result = _run("publish", poor, *options)
    assert result.exit_code == 3, result.output
    said = " ".join(result.output.split())
    assert f"{base / '3'}: a score is not in [0, 1]; skipped" in said
    assert "beyond max_auc_loss: AUC - that of version 2 (served)" in said
    result = _run("publish", good, *options)
    assert result.exit_code == 0, result.output
    assert not _card(base / "4")["forced"]


def test_an_incomplete_or_wrong_version_is_not_published(
    tmp_path: Path, candidates: tuple[Path, Path], log: Path
) -> None:
    good, _ = candidates
    base = tmp_path / "ctr"

    def rejection(candidate: Path, *more: object) -> str:
        result = _run("publish", candidate, "--to", base, "--log", log, *more)
        assert result.exit_code == 2, result.output
        assert not base.exists()
        return " ".join(result.output.split())

    assert "cannot be loaded" in rejection(tmp_path / "absent")
    copy = shutil.copytree(good, tmp_path / "no warm-up")
    (copy / WARMUP).unlink()
    assert "has no warm-up requests" in rejection(copy)
    module = tf.Module()
    module.v = tf.Variable(1.0)
    function = tf.function(lambda ids: {"ctr": module.v * tf.cast(ids[:, 0], tf.float32)})
    flat = function.get_concrete_function(ids=tf.TensorSpec([None, 3], tf.int32))
    tf.saved_model.save(module, str(tmp_path / "foreign"), signatures={"serving_default": flat})
    assert "has no signature feature_spec, score" in rejection(tmp_path / "foreign")
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(SPEC | {"embedding_dim": 5}), encoding="utf-8")
    assert "has spec" in rejection(good, "--spec", other)
    assert "the user's path 'a..b': cannot be read at character 3" in rejection(good, "--user-path", "a..b")
    assert "--log or --prepared: exactly one is needed" in rejection(good, "--prepared", tmp_path)


def test_a_failure_before_publication_changes_nothing(
    tmp_path: Path, candidates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    servable, base = Servable.load(candidates[0]), tmp_path / "ctr"
    _put(servable, base)
    seen: list[list[str]] = []

    def full_disk(*_: object) -> None:
        # Before the last step everything is written, but not under a number that a server would load.
        seen.append(_listed(base))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "write_warmup", full_disk)
        with pytest.raises(ExportError, match=r"ctr/2: cannot be written: .*No space left"):
            _put(servable, base)
    assert [name for name in seen[0] if name.isdecimal()] == ["1"]
    assert len(seen[0]) == 2
    assert _listed(base) == ["1"]
    with pytest.raises(ExportError, match="already has version 5, which servers prefer"):
        _put(servable, _put(servable, base, version=5).parent, version=3)
    with pytest.raises(ExportError, match="exists already"):
        _put(servable, base, version=5)


def test_a_broken_version_is_named_and_the_next_number_is_above_it(
    tmp_path: Path, candidates: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    servable, base = Servable.load(candidates[0]), tmp_path / "ctr"
    _put(servable, base)
    write_version(base / "2", "variables/variables.index")
    (base / "4").touch()
    served = Served.of(base)
    name_broken(served)
    assert served.servable is not None
    assert served.servable.path == base / "1"
    printed = " ".join(capsys.readouterr().out.split())
    assert "ctr/2: variables are missing; skipped, but servers try to load it" in printed
    assert "ctr/4: not a folder; skipped, but servers try to load it" in printed
    assert _put(servable, base, keep=2) == base / "5"
    assert _listed(base) == ["1", "2", "4", "5"], "broken ones do not count as versions that remain"
    (base / str(2**63 - 1)).touch()
    with pytest.raises(ExportError, match=r"must be a positive integer below 2\^63"):
        _put(servable, base)


def test_a_label_of_another_model_that_moves_meanwhile_is_kept(
    tmp_path: Path, candidates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    servable, base, config = Servable.load(candidates[0]), tmp_path / "ctr", tmp_path / "models.config"
    other = write_version(tmp_path / "cvr" / "7").parent
    config.write_text(f'model_config_list {{ config {{ name: "ctr" base_path: "{base}" }} config {{ name: "cvr" }} }}')

    def slowly(*_: object) -> None:
        set_label(config, other, "stable", 7)

    monkeypatch.setattr(publishing, "write_warmup", slowly)
    _put(servable, base, labelling=publishing.Labelling(config, "stable"))
    text = config.read_text(encoding="utf-8")
    assert 'name: "cvr" version_labels { key: "stable" value: 7 }' in text
    assert f'base_path: "{base}" version_labels {{ key: "stable" value: 1 }}' in text


def test_a_failure_after_publication_says_that_the_version_is_published(
    tmp_path: Path, candidates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    servable, base, config = Servable.load(candidates[0]), tmp_path / "ctr", tmp_path / "models.config"
    config.write_text(f'model_config_list {{ config {{ name: "ctr" base_path: "{base}" }} }}')

    def full_disk(path: Path, _: str) -> None:
        raise ExportError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(publishing, "write_labels", full_disk)
    with pytest.raises(ExportError, match=r"ctr/1 is published, but a later step failed: .*models.config: cannot be"):
        _put(servable, base, labelling=publishing.Labelling(config, "stable"))
    assert _listed(base) == ["1"]


def test_a_version_that_another_publisher_added_is_not_ignored(
    tmp_path: Path, candidates: tuple[Path, Path], log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, poor = candidates
    base = tmp_path / "ctr"
    _put(Servable.load(poor), base)
    command = import_module("model_training.commands.publish")
    real = command.Comparison.evaluate

    def slowly(*arguments: Any) -> Any:
        found = real(*arguments)
        _put(Servable.load(good), base)
        return found

    monkeypatch.setattr(command.Comparison, "evaluate", slowly)
    result = _run("publish", poor, "--to", base, "--log", log, "--force")
    assert result.exit_code == 2, result.output
    assert "ctr/2: the candidate was not compared with this version; run publish again" in " ".join(
        result.output.split()
    )
    assert versions_in(base) == [1, 2]


def test_a_version_that_appears_during_the_copy_is_not_ignored(
    tmp_path: Path, candidates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "ctr"
    monkeypatch.setattr(publishing, "write_warmup", lambda *_: write_version(base / "5"))
    with pytest.raises(ExportError, match="ctr/5: the candidate was not compared with this version"):
        _put(Servable.load(candidates[0]), base, version=9)
    assert _listed(base) == ["5"]


def test_two_writers_of_one_version_use_different_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like containers on one volume, where each process has the id 1."""
    monkeypatch.setattr(os, "getpid", lambda: 1)

    def write(what: str, version: int, between: Callable[[], object] = int) -> None:
        with new_version(tmp_path, version) as partial:
            partial.mkdir()
            (partial / "saved_model.pb").write_text(what, encoding="utf-8")
            between()

    def fail() -> None:
        raise OSError(28, "No space left on device")

    def second_fails() -> None:
        with pytest.raises(ExportError, match="1: cannot be written: No space left"):
            write("second", 1, fail)

    write("first", 1, second_fails)
    with pytest.raises(ExportError, match="2: cannot be written: Directory not empty"):
        write("slow", 2, lambda: write("quick", 2))
    found = [(tmp_path / version / "saved_model.pb").read_text(encoding="utf-8") for version in ("1", "2")]
    assert (found, _listed(tmp_path)) == (["first", "quick"], ["1", "2"])


def test_a_version_that_another_publisher_removes_counts_as_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_version(tmp_path / "3")
    found = [versions.Found(number, tmp_path / str(number), None) for number in (1, 3)]
    monkeypatch.setattr(versions, "found_in", lambda _: found)
    assert remove_old(tmp_path, 1) == [1]


def test_only_the_oldest_versions_are_removed(tmp_path: Path) -> None:
    for number in (1, 2, 9, 10):
        with new_version(tmp_path, number) as partial:
            partial.mkdir()
            (partial / "saved_model.pb").write_bytes(b"x")
            assert number not in versions_in(tmp_path)
    (tmp_path / "readme").touch()
    assert versions_in(tmp_path) == [1, 2, 9, 10]
    assert remove_old(tmp_path, 3) == [1]
    assert remove_old(tmp_path, 3) == []
    assert _listed(tmp_path) == ["10", "2", "9", "readme"]


def test_old_files_of_killed_publishers_are_removed(tmp_path: Path) -> None:
    abandoned, current = tmp_path / ".3.0af1.partial", tmp_path / ".4.0af2.partial"
    others = tmp_path / ".some.other.folder"
    for folder in (abandoned, current, others):
        folder.mkdir()
        (folder / "saved_model.pb").write_bytes(b"x")
    for folder in (abandoned, others):
        two_days_ago = time.time() - 2 * 86_400
        os.utime(folder, (two_days_ago, two_days_ago))
    assert remove_old(tmp_path, 3) == []
    assert _listed(tmp_path) == [current.name, others.name]


def _version_of(address: str, label: str) -> int | str:
    """The version that a server uses for a label, or its error."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "ctr"
    request.model_spec.signature_name = "feature_spec"
    request.model_spec.version_label = label
    with grpc.insecure_channel(address, DIRECT) as channel:
        call = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=predict_pb2.PredictRequest.SerializeToString,
            response_deserializer=predict_pb2.PredictResponse.FromString,
        )
        try:
            version: int = call(request, timeout=60).model_spec.version.value
        except grpc.RpcError as error:
            return str(error)
    return version


def _wait_for(address: str, label: str, version: int) -> None:
    deadline = time.monotonic() + 60
    while (found := _version_of(address, label)) != version:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


@pytest.mark.slow
def test_a_server_applies_a_label_when_its_version_is_loaded(tmp_path: Path, candidates: tuple[Path, Path]) -> None:
    servable, base, config = Servable.load(candidates[0]), tmp_path / "ctr", tmp_path / "models.config"
    labelling = publishing.Labelling(config, "stable")
    policy = "model_version_policy { latest { num_versions: 2 } }"
    config.write_text(
        f'model_config_list {{ config {{ name: "ctr" base_path: "{base}" model_platform: "tensorflow" {policy} }} }}'
    )
    _put(servable, base)
    flags = {"model_config_file_poll_wait_seconds": 1, "allow_version_labels_for_unavailable_models": True}
    with ModelServerProcess(config=config, flags=flags, log_path=tmp_path / "log") as server:
        assert "Unrecognized servable version label: stable" in str(_version_of(server.address, "stable"))
        _put(servable, base, labelling=labelling)
        _wait_for(server.address, "stable", 2)
        set_label(config, base, "stable", 1)
        _wait_for(server.address, "stable", 1)
        # With a third version the label's version would no longer be served.
        with pytest.raises(ExportError, match="label 'stable' would name version 1"):
            _put(servable, base, labelling=publishing.Labelling(config, "canary"))
        assert _listed(base) == ["1", "2"]
        server.restart()
        _wait_for(server.address, "stable", 1)


def test_a_label_needs_its_file(tmp_path: Path) -> None:
    rejected = _run("publish", tmp_path, "--to", tmp_path, "--label", "stable")
    assert rejected.exit_code == 2
    assert "--label and --model-config must be used together" in rejected.output
