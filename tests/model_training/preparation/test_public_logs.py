"""The shipped configs on their public logs."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from model_training.config.preparation import PrepareConfig, TableSource
from model_training.config.training import load_spec
from model_training.data.click_log import LoggedRequest, encode_log
from model_training.data.training_data import read_examples
from model_training.preparation.prepare import prepare
from sandbox.replay.avazu import read_impressions
from sandbox.replay.public_data import AVAZU
from streamer.features import Encoder
from tests.model_training.preparation.conftest import SPARK_LEAVES_SOCKETS
from tests.model_training.preparation.test_prepare import rows_of
from tests.public_data import require_data

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.tensorflow, pytest.mark.data, SPARK_LEAVES_SOCKETS]


@dataclass(frozen=True, slots=True)
class Log:
    """Expected figures of a log."""

    file: Path
    rows: int
    clicks: int


LOGS = {
    "talkingdata": Log(Path("talkingdata/train_sample.csv.gz"), 100_000, 227),
    "ipinyou": Log(Path("ipinyou/train.decoded.tsv.gz"), 26_773, 255),
}


def _config(name: str, file: Path) -> PrepareConfig:
    config = PrepareConfig.from_yaml(Path(f"configs/prepare/{name}.yaml"))
    assert isinstance(config.source, TableSource)
    source = config.source.model_copy(update={"paths": (str(file),)})
    return config.model_copy(update={"source": source, "shards": 2})


@pytest.mark.slow
def test_avazu_is_encoded_like_its_replay(spark: "SparkSession", tmp_path: Path) -> None:
    (path,) = require_data(AVAZU)
    config = _config("avazu", path)
    spec = load_spec(config.spec)
    prepared = prepare(spark, config, spec, tmp_path / "out")
    assert (prepared.rows, prepared.dropped) == (23_299, {})
    found: Counter[tuple[bytes, bytes, int]] = Counter()
    for split in prepared.splits.values():
        found += rows_of(read_examples(tmp_path / "out", split.records))
    replayed = (LoggedRequest(i.timestamp_ms, i.request, [i.candidate], [i.clicked]) for i in read_impressions(path))
    expected: Counter[tuple[bytes, bytes, int]] = Counter()
    for examples in encode_log(replayed, Encoder(spec)):
        expected += rows_of(examples)
    assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", LOGS)
def test_other_logs_are_read_to_the_last_row(spark: "SparkSession", tmp_path: Path, name: str) -> None:
    log = LOGS[name]
    (path,) = require_data(log.file)
    config = _config(name, path)
    prepared = prepare(spark, config, load_spec(config.spec), tmp_path / "out")
    assert (prepared.rows, prepared.dropped) == (log.rows, {})
    assert set(prepared.splits) == {"train", "validation", "test"}
    assert sum(split.records.positives for split in prepared.splits.values()) == log.clicks
