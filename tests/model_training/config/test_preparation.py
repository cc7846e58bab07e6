"""Preparation configs: which ones are rejected, and how."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from model_training.commands import app
from model_training.config.preparation import PrepareConfig, TableSource
from model_training.config.training import load_spec
from model_training.errors import ConfigError
from model_training.preparation.table import expressions_of
from tests.model_training.preparation.conftest import TABLE_SOURCE

SOURCE = TABLE_SOURCE | {"paths": ["log.jsonl"]}
EVENTS = {"kind": "topics", "impressions": ["i"], "clicks": ["c"]}


def _read(folder: Path, **content: object) -> PrepareConfig:
    path = folder / "prepare.yaml"
    path.write_text(yaml.safe_dump({"spec": "s.yaml", "source": SOURCE, **content}), encoding="utf-8")
    return PrepareConfig.from_yaml(path)


@pytest.mark.parametrize("path", sorted(Path("configs/prepare").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configs_feed_every_feature_of_their_specs(path: Path) -> None:
    config = PrepareConfig.from_yaml(path)
    assert str(path) in path.read_text(encoding="utf-8").splitlines()[0]
    spec = load_spec(config.spec)
    if isinstance(config.source, TableSource):
        assert expressions_of(spec, config.source)


def test_times_split_a_log_as_shares_do(tmp_path: Path) -> None:
    config = _read(tmp_path, split={"validation_from": datetime(2014, 10, 22, tzinfo=UTC)})
    assert config.split.validation_from == datetime(2014, 10, 22, tzinfo=UTC)
    assert config.spec == tmp_path / "s.yaml"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"shard": 3}, r"shard: unknown key; did you mean 'shards'\?"),
        ({"negative_sampling_rate": 0}, r"negative_sampling_rate: .*\(got 0\)"),
        ({"split": {"train": 0.9}}, "split: train, validation and test are shares with sum 1, not 1.1"),
        ({"split": {"validaton": 0.1}}, r"split\.validaton: unknown key; did you mean 'validation'\?"),
        (
            {"split": {"validation_from": "2014-10-22T00:00:00Z", "test_from": "2014-10-22T00:00:00Z"}},
            r"split\.test_from: must be later than validation_from",
        ),
        ({"split": {"validation_from": "2014-10-22T00:00:00"}}, r"split\.validation_from: .*timezone"),
        (
            {"split": {"validation_from": "2014-10-22T00:00:00Z", "train": 0.8}},
            r"split: give shares \(train\) or times, not both",
        ),
        ({"source": SOURCE | {"lable": "x"}}, r"source\.lable: unknown key; did you mean 'label'\?"),
        ({"source": SOURCE | {"kind": "tables"}}, r"source: unknown kind 'tables'; did you mean 'table'\?"),
        ({"source": SOURCE | {"format": "orc"}}, r"source\.format: .*\(got 'orc'\)"),
        ({"source": SOURCE | {"paths": []}}, r"source\.paths: "),
        ({"source": SOURCE | {"options": {"Mode": "DROPMALFORMED"}}}, r"source\.options\.Mode: DROPMALFORMED would"),
        ({"source": SOURCE | {"options": {"ignoreCorruptFiles": "true"}}}, r"ignoreCorruptFiles: true would leave out"),
        ({"source": EVENTS}, "source: one of bid_requests and feature_log is needed"),
        (
            {"source": EVENTS | {"bid_requests": ["b"], "feature_log": ["f"]}},
            "source: one of bid_requests and feature_log is needed",
        ),
        (
            {"source": EVENTS | {"feature_log": ["f"], "ads": ["a"]}},
            r"source\.ads: a feature log has the ads as they were",
        ),
        (
            {"source": EVENTS | {"bid_requests": ["b"], "answers": ["a"]}},
            r"source\.answers: .* only .* with source\.ads",
        ),
        ({"source": EVENTS | {"bid_requests": ["b"], "ads": []}}, r"source\.ads: "),
    ],
)
def test_mistakes_are_named(tmp_path: Path, content: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _read(tmp_path, **content)


def test_encoded_rows_have_no_fitted_spec(tmp_path: Path) -> None:
    arguments = ["--config", "configs/prepare/feature_log.yaml", "--output", str(tmp_path / "out")]
    rejected = CliRunner().invoke(app, ["prepare", *arguments, "--fitted-spec", str(tmp_path / "spec.json")])
    assert rejected.exit_code == 2
    assert "--fitted-spec: a feature log has encoded rows" in rejected.output
    arguments = ["--config", "configs/prepare/topics.yaml", "--output", str(tmp_path / "out")]
    rejected = CliRunner().invoke(app, ["prepare", *arguments, "--fitted-spec", str(tmp_path / "none" / "spec.json")])
    assert (rejected.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert "--fitted-spec: there is no folder" in rejected.output
