"""The same preparation under `spark-submit`, as on a cluster."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model_training.config.preparation import PrepareConfig
from model_training.data.prepared import read_prepared
from model_training.data.training_data import read_examples
from streamer.features import Encoder, FeatureSpec
from tests.model_training.preparation.conftest import BAD_LINES, ROWS, TABLE_SOURCE, log_row, write_config, write_log
from tests.model_training.preparation.test_prepare import as_served, rows_of

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

JOB = Path("deploy/spark/model_training_job.py").resolve()


def test_spark_submit_runs_the_command_unchanged(tmp_path: Path, numbers_spec: FeatureSpec) -> None:
    write_log(tmp_path / "log.jsonl")
    config = write_config(tmp_path, TABLE_SOURCE | {"paths": [str(tmp_path / "log.jsonl")]}, shards=2)
    output = tmp_path / "out"
    command = [str(Path(sys.executable).with_name("spark-submit")), "--master", "local[2]", "--conf",
               "spark.ui.enabled=false", "--conf", "spark.sql.shuffle.partitions=2", str(JOB),
               "prepare", "--config", str(config), "--output", str(output)]  # fmt: skip
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{ROWS + len(BAD_LINES)} rows, {len(BAD_LINES)} dropped" in done.stdout
    prepared = read_prepared(output)
    assert PrepareConfig.from_yaml(config).model_dump(mode="json") == prepared.config
    encoder = Encoder(numbers_spec)
    found = [row for split in prepared.splits.values() for row in rows_of(read_examples(output, split.records))]
    assert set(found) == {as_served(log_row(i), encoder) for i in range(ROWS)}


def test_errors_under_spark_submit_are_one_line_with_their_status(tmp_path: Path) -> None:
    config = write_config(tmp_path, TABLE_SOURCE | {"paths": [str(tmp_path / "absent.jsonl")]})
    command = [str(Path(sys.executable).with_name("spark-submit")), "--master", "local[1]", str(JOB),
               "prepare", "--config", str(config), "--output", str(tmp_path / "out")]  # fmt: skip
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 2
    # spark-submit merges standard output and standard error of its Python program.
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert "PATH_NOT_FOUND" in line
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "out").exists()
