"""The Spark session: as `spark-submit` says, or local."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession

_SETTINGS = {
    # Times without a zone mean UTC, on every machine.
    "spark.sql.session.timeZone": "UTC",
    # A value that cannot be read is null, and its row is counted; it does not end the run.
    "spark.sql.ansi.enabled": "false",
    # A line is judged by all of its columns, whichever are asked for.
    "spark.sql.csv.parser.columnPruning.enabled": "false",
}


@contextmanager
def spark_session(master: str) -> Iterator[SparkSession]:
    """A session that ends with the block.

    Args:
        master: where to run; `spark-submit`, which starts the program with a gateway of its own, decides instead.
    """
    builder = SparkSession.builder.appName("model-training prepare")
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        builder = builder.master(master).config("spark.ui.enabled", "false")
    for key, value in _SETTINGS.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    try:
        yield spark
    finally:
        spark.stop()
