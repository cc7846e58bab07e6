"""Encodes a split of prepared data again, from its log and with another spec."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from pyspark.sql import functions as f

from model_training.config.preparation import PrepareConfig, TableSource
from model_training.data.manifest import write_manifest
from model_training.data.prepared import Prepared, Split
from model_training.errors import DataError
from model_training.preparation.encoding import encode
from model_training.preparation.prepare import moved, read_source
from model_training.preparation.rows import REASON, TIME_MS, data_errors
from model_training.preparation.shards import SPLIT, write_shards
from model_training.preparation.table import expressions_of
from streamer.features import FeatureSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def encode_again(spark: "SparkSession", prepared: Prepared, split: Split, spec: FeatureSpec, directory: Path) -> None:
    """Writes to `directory` prepared data with this split only, encoded with `spec`.

    The log is that of the manifest. Rows that the log has received after the split's last row are left out. Of a split
    `train` with sampled non-clicks, all rows are encoded.

    Raises:
        ConfigError: the config does not fit the log or `spec`.
        DataError: the log cannot be read, or has no rows of this time.
    """
    config = _config(prepared)
    times = prepared.splits[split]
    scratch = directory / "shards"
    with data_errors("preparation"):
        source = read_source(spark, config, spec, allow_unread=True)
        frame = source.frame.where(f.col(TIME_MS).between(times.first_ms, times.last_ms))
        rows = encode(replace(source, frame=frame), spec).where(f.col(REASON).isNull())
        try:
            scratch.mkdir()
            written = write_shards(rows.withColumn(SPLIT, f.lit(split)), spec, scratch, config.shards)
            found = moved(split, written, directory, spec, config)
            if found is None:
                raise DataError("the log no longer has rows of this split")
            write_manifest(directory, replace(prepared, splits={split: found}))
        except OSError as error:
            raise DataError(f"{directory}: cannot be written: {error}") from error


def check_expressions(prepared: Prepared, spec: FeatureSpec) -> None:
    """Checks that a table's config has an expression for each feature of `spec`; without Spark.

    Raises:
        NoExpressionError: names the feature.
        DataError: the manifest's config cannot be read.
    """
    source = _config(prepared).source
    if isinstance(source, TableSource):
        expressions_of(spec, source, allow_unread=True)


def _config(prepared: Prepared) -> PrepareConfig:
    known = {key: prepared.config.get(key) for key in ("spec", "source", "shards")}
    try:
        return PrepareConfig.model_validate(known)
    except ValidationError as error:
        raise DataError(f"the manifest's config cannot be read: {error.errors()[0]['msg']}") from None
