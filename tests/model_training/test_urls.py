"""Data, checkpoints and versions by URL, on a Google Cloud Storage in memory."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_training.commands import app
from model_training.config.training import TrainingConfig
from model_training.data.click_log import encode_log, read_log
from model_training.data.manifest import sha256_of, write_manifest
from model_training.data.prepared import SPLITS, Prepared, Split, SplitManifest
from model_training.data.records import write_records
from model_training.errors import ConfigError
from model_training.export.saved_model import export
from model_training.export.servable import Servable
from model_training.export.versions import found_in, new_version, remove_old, versions_in
from model_training.models.build import build_model
from model_training.publishing.tries import record_try
from model_training.publishing.window import keep_best
from model_training.urls import UrlPath, check_path, copy_tree, path_or_url
from streamer.features import Encoder, FeatureSpec
from tests.model_training.export.test_versions import write_version
from tests.model_training.gcs import Storage, google_cloud_storage
from tests.model_training.launched import WAIT_SECONDS, launched, write_config

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    with google_cloud_storage(tmp_path_factory.mktemp("gcs")) as storage:
        yield storage


@pytest.fixture
def root(storage: Storage, request: pytest.FixtureRequest) -> UrlPath:
    """A folder of this test."""
    return UrlPath(f"gs://bucket/{request.node.name}")


@pytest.mark.slow
def test_a_url_has_the_operations_of_a_local_path(root: UrlPath, tmp_path: Path) -> None:
    def used(root: Path) -> list[object]:
        folder = root / "a" / "b"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "x.json").write_text("xyz", encoding="utf-8")
        (folder / "y.partial").write_bytes(b"12345")
        (folder / "y.partial").rename(folder / "y")
        with pytest.raises(FileNotFoundError):
            (folder / "absent").read_bytes()
        with pytest.raises(FileNotFoundError):
            list((root / "absent").iterdir())
        with pytest.raises(FileNotFoundError):
            (root / "absent").unlink()
        (root / "absent").unlink(missing_ok=True)
        files = sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())
        found: list[object] = [
            files,
            sorted(entry.name for entry in folder.iterdir()),
            [entry.name for entry in folder.glob("x*")],
            (folder / "x.json").read_text(encoding="utf-8"),
            (folder / "y").stat().st_size,
            sha256_of(folder / "y"),
            [(path.exists(), path.is_dir(), path.is_file()) for path in (folder, folder / "y", folder / "absent")],
            (folder.name, folder.parent == root / "a", (folder / "x.json").with_suffix(".part").name),
        ]
        (folder / "empty").touch()
        found.append(((folder / "empty").read_bytes(), len([file for file in root.glob("**/*") if file.is_file()])))
        (folder / "x.json").unlink()
        return [*found, (folder / "x.json").exists()]

    assert used(root) == used(tmp_path)
    assert str(root / "a") == f"{root}/a"
    assert root / str(root / "b") == UrlPath(str(root), "b")


def test_options_name_urls_that_cannot_be_used() -> None:
    assert type(path_or_url("gs://bucket/models")) is UrlPath
    assert path_or_url("file:///models") == Path("/models")
    assert type(path_or_url("models/ctr")) is type(Path())
    check_path("--to", path_or_url("ram://models"))
    check_path("--to", Path("models"))
    with pytest.raises(ConfigError, match="--to s3://b/x: TensorFlow has no file system for s3; it has gs"):
        check_path("--to", path_or_url("s3://b/x"))
    result = CliRunner().invoke(app, ["train", "--log", "gs://bucket/log.jsonl"])
    assert result.exit_code == 2
    assert result.output.strip() == (
        "error: --log gs://bucket/log.jsonl: takes no URL, only a path of this machine: copy the file or folder"
    )


@pytest.mark.slow
def test_a_version_by_url_has_its_graph_last_and_loses_it_first(
    root: UrlPath, storage: Storage, tmp_path: Path
) -> None:
    with new_version(root, 1) as folder:
        assert type(folder) is type(tmp_path)
        (folder / "variables").mkdir(parents=True)
        for name in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
            (folder / name).write_bytes(b"x")
        assert found_in(root) == []
    assert versions_in(root) == [1]
    assert [Path(name).name for name in storage.written() if f"{root.name}/1/" in name][-1] == "saved_model.pb"
    for version in (3, 4):
        copy_tree(root / "1", root / str(version))
    assert remove_old(root, 2) == [1]
    assert versions_in(root) == [3, 4]


@pytest.mark.slow
def test_the_gate_s_records_are_kept_by_url(root: UrlPath, tmp_path: Path) -> None:
    candidate = write_version(tmp_path / "1")
    for number in (1, 3, 4):
        copy_tree(candidate, root / str(number))
    assert [record_try(root, split, candidate) for split in ("a", "a", "b")] == [1, 1, 1]
    for best, present in ((1, [1]), (4, [])):
        keep_best(root, best, keep=2)
        remove_old(root, 2)
        assert versions_in(root) == [3, 4]
        assert versions_in(root / ".gate" / "best") == present


@pytest.mark.slow
def test_a_model_is_exported_to_a_url_and_loaded_from_it(root: UrlPath, spec: FeatureSpec) -> None:
    config = TrainingConfig.model_validate({"spec": "unused", "model": {"kind": "logistic_regression"}})
    path = export(build_model(config, spec), spec, root, 3)
    assert path == root / "3"
    assert versions_in(root) == [3]
    assert Servable.load(path).spec == spec


@pytest.fixture
def prepared(root: UrlPath, tmp_path: Path, log: Path, spec: FeatureSpec) -> UrlPath:
    """A folder as `prepare` makes it, by URL."""
    splits: dict[Split, SplitManifest] = {}
    for i, name in enumerate(SPLITS):
        lines = read_log(log, first=400 * i, last=400 * (i + 1))
        written = write_records(encode_log(lines, Encoder(spec)), tmp_path / "prepared" / name, spec)
        shards = tuple(replace(shard, file=f"{name}/{shard.file}") for shard in written.shards)
        splits[name] = SplitManifest(replace(written, shards=shards), i, i)
    write_manifest(tmp_path / "prepared", Prepared({}, 3600, {}, 0, {}, 1, 2, splits))
    copy_tree(tmp_path / "prepared", root / "prepared")
    return root / "prepared"


@pytest.mark.slow
def test_each_step_from_prepared_data_to_a_published_version_takes_urls(
    root: UrlPath, prepared: UrlPath, tmp_path: Path
) -> None:
    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == 0, result.output
        return result.output

    model = {"kind": "logistic_regression"}
    config = write_config(tmp_path, model=model, batch_size=64, early_stopping={"patience": 1}, epochs=3)
    training = (
        "train",
        "--config",
        config,
        "--prepared",
        prepared,
        "--checkpoints",
        root / "run",
        "--judge-by",
        "test",
    )
    assert "1,200 examples" in run(*training, "--export-to", root / "candidates" / "small")
    assert (root / "run" / "run.json").is_file()
    assert "no steps: an earlier run has made all of them" in run(*training)
    candidate = root / "candidates" / "small" / "1"
    served = root / "served" / "small"
    rows = ("--prepared", prepared, "--gate", "configs/gate.yaml")
    assert "1,200 examples" in run("evaluate", candidate, *rows)
    for version in (1, 2):
        output = run("publish", candidate, "--to", served, *rows, "--force", "--report", tmp_path / "report.json")
        assert f"published {served / str(version)}" in output.replace("\n", "")
        assert versions_in(served) == list(range(1, version + 1))


@pytest.mark.slow
def test_a_distributed_run_takes_urls(root: UrlPath, prepared: UrlPath, tmp_path: Path) -> None:
    config = write_config(tmp_path, model={"kind": "logistic_regression"}, batch_size=64)
    with launched(
        *("--config", config, "--prepared", prepared, "--mode", "async", "--ps", "1", "--workers", "2"),
        *("--checkpoints", root / "run", "--export-to", root / "models" / "small"),
    ) as process:
        output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, output
    assert versions_in(root / "models" / "small") == [1]
    assert list((root / "run").glob("model.ckpt-*.index"))
