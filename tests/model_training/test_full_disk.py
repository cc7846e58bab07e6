"""A full disk gives one clear line, and no half-written file under its final name."""

from pathlib import Path

import numpy as np
import pytest

from model_training.checkpoints import Checkpoints
from model_training.commands.evaluate import write_report
from model_training.config.training import TrainingConfig
from model_training.data.click_log import encode_log, read_log
from model_training.data.examples import Examples
from model_training.data.manifest import MANIFEST
from model_training.data.records import write_records
from model_training.data.training_data import split_log
from model_training.errors import DataError, ExportError
from model_training.evaluation.predictions import write_predictions
from model_training.export.saved_model import export
from model_training.export.servable import Servable
from model_training.export.versions import found_in
from model_training.models.build import build_model
from model_training.publishing import publish as publishing
from model_training.training.loop import Progress
from model_training.training.single_process import train_records
from streamer.features import Encoder, FeatureSpec
from tests.model_training.disk import files_end_at

pytestmark = pytest.mark.tensorflow

_LARGE = "File too large"


@pytest.fixture
def examples(log: Path, encoder: Encoder) -> Examples:
    (encoded,) = encode_log(read_log(log), encoder, chunk=10**6)
    return encoded


@pytest.fixture
def config() -> TrainingConfig:
    return TrainingConfig.model_validate(
        {"spec": "unused", "model": {"kind": "wide_deep", "hidden_units": [64, 64]}, "batch_size": 60}
    )


def test_incomplete_records_have_no_manifest(tmp_path: Path, examples: Examples, spec: FeatureSpec) -> None:
    write_records([examples], tmp_path, spec)
    with files_end_at(20_000), pytest.raises(DataError, match=rf"{tmp_path}: cannot be written: .*{_LARGE}") as caught:
        write_records([examples], tmp_path, spec)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / MANIFEST).exists()


def test_a_version_does_not_appear(tmp_path: Path, config: TrainingConfig, spec: FeatureSpec) -> None:
    base = tmp_path / "ctr"
    with files_end_at(4_000), pytest.raises(ExportError, match=rf"ctr/1: cannot be written: .*{_LARGE}") as caught:
        export(build_model(config, spec), spec, base, 1)
    assert "\n" not in str(caught.value)
    assert list(base.iterdir()) == []


def test_a_version_is_not_published(tmp_path: Path, config: TrainingConfig, spec: FeatureSpec) -> None:
    servable = Servable.load(export(build_model(config, spec), spec, tmp_path / "candidate", 1))
    base = tmp_path / "ctr"
    publishing.publish(servable, base, {}, seen=())
    with files_end_at(4_000), pytest.raises(ExportError, match=rf"ctr/2: cannot be written: .*{_LARGE}") as caught:
        publishing.publish(servable, base, {}, seen=found_in(base))
    assert "\n" not in str(caught.value)
    assert [path.name for path in base.iterdir()] == ["1"]


def test_the_previous_checkpoint_is_complete(
    tmp_path: Path, log: Path, config: TrainingConfig, spec: FeatureSpec
) -> None:
    data, run = split_log(log, tmp_path / "records", spec), tmp_path / "run"
    often = config.with_distributed({"checkpoint_seconds": 1e-9})

    def killed(progress: Progress) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        train_records(data.directory, data.manifest, spec, often, killed, checkpoints=run)
    before = Checkpoints(run, every_seconds=60, now=0).position
    with (
        files_end_at(4_000),
        pytest.raises(ExportError, match=rf"{run}: cannot be written: .*{_LARGE}") as caught,
    ):
        train_records(data.directory, data.manifest, spec, often, checkpoints=run)
    assert "\n" not in str(caught.value)
    assert Checkpoints(run, every_seconds=60, now=0).position == before
    _, result = train_records(data.directory, data.manifest, spec, config, checkpoints=run)
    assert result.examples == data.manifest.examples - before.examples > 0


def test_a_summary_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every_seconds=60, now=0)
    with files_end_at(20), pytest.raises(ExportError, match=rf"{tmp_path}: cannot be written: .*{_LARGE}") as caught:
        checkpoints.summarise("loss", 0.5, 1)
    assert "\n" not in str(caught.value)


def test_a_report_and_predictions_that_cannot_be_written_are_named(tmp_path: Path, examples: Examples) -> None:
    scores = {"wide_deep": np.full(len(examples.labels), 0.5, np.float32)}
    with files_end_at(1_000):
        with pytest.raises(DataError, match=rf"scores\.npz: cannot be written: {_LARGE}"):
            write_predictions(tmp_path / "scores.npz", examples.labels, scores)
        with pytest.raises(DataError, match=rf"report\.json: cannot be written: {_LARGE}"):
            write_report(tmp_path / "report.json", ["x" * 2_000])
