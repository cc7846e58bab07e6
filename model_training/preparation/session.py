"""The Spark session: configured by `spark-submit`, or local."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from py4j.protocol import Py4JError, Py4JJavaError, Py4JNetworkError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from model_training.errors import ConfigError, in_a_line
from model_training.preparation.java import check_java

_SETTINGS = {
    # Times without a zone are UTC on every machine.
    "spark.sql.session.timeZone": "UTC",
    # An unreadable value becomes null, and its row is counted; it does not end the run.
    "spark.sql.ansi.enabled": "false",
    # A line is checked with all of its columns, also those that are not selected.
    "spark.sql.csv.parser.columnPruning.enabled": "false",
}

_LOCAL_PARTITIONS = 8
_LOG4J = Path(__file__).with_name("log4j2.properties")


def _is_not_of_py4j(record: logging.LogRecord) -> bool:
    """Py4J logs stack traces of errors, which it also raises, through the root logger."""
    return Path(record.pathname).parent.name != "py4j"


def _started(builder: SparkSession.Builder) -> SparkSession:
    try:
        return builder.getOrCreate()
    except Py4JJavaError as error:
        raise ConfigError(f"Spark cannot start: {error.java_exception}") from None
    except (PySparkException, Py4JError) as error:
        raise ConfigError(f"Spark cannot start: {in_a_line(error)}") from None


@contextmanager
def spark_session(master: str) -> Iterator[SparkSession]:
    """A session that ends with the block.

    Args:
        master: Spark's master; ignored under `spark-submit`, which starts the program with its own gateway.

    Raises:
        ConfigError: Spark cannot start on this machine or with this master.
    """
    # This logger writes stack traces of errors that this program reports or expects.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(_is_not_of_py4j)
    builder = SparkSession.builder.appName("model-training prepare")
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        check_java()
        # Tasks must run in this program's environment and not with the first `python3` on the path.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        builder = builder.master(master).config("spark.ui.enabled", "false")
        builder = builder.config("spark.driver.extraJavaOptions", f"-Dlog4j2.configurationFile={_LOG4J.as_uri()}")
        # The progress line is redrawn for a person; in a file it is noise.
        builder = builder.config("spark.ui.showConsoleProgress", str(sys.stderr.isatty()).lower())
        if master.startswith("local"):
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
            # Spark's default of 200 is for clusters; on one machine starting them takes longer than their work.
            builder = builder.config("spark.sql.shuffle.partitions", _LOCAL_PARTITIONS)
    for key, value in _SETTINGS.items():
        builder = builder.config(key, value)
    spark = _started(builder)
    spark.sparkContext.setLogLevel("ERROR")
    if threading.current_thread() is threading.main_thread():
        # PySpark's own handler of Ctrl-C calls the JVM during another call, and fails with long stack traces.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield spark
    except (KeyboardInterrupt, Py4JNetworkError) as error:
        # Py4J cleans up after a Ctrl-C during a call; if that fails, it raises the cleanup's error instead.
        if not isinstance(error, KeyboardInterrupt) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        with suppress(Py4JNetworkError):
            # Suppresses the long messages of interrupted threads.
            spark.sparkContext.setLogLevel("OFF")
        raise KeyboardInterrupt from None
    finally:
        with suppress(Py4JNetworkError):
            spark.stop()
