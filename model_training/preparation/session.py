"""The Spark session: as `spark-submit` says, or local."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from py4j.protocol import Py4JNetworkError
from pyspark.sql import SparkSession

_SETTINGS = {
    # Times without a zone mean UTC, on every machine.
    "spark.sql.session.timeZone": "UTC",
    # A value that cannot be read is null, and its row is counted; it does not end the run.
    "spark.sql.ansi.enabled": "false",
    # A line is judged by all of its columns, whichever are asked for.
    "spark.sql.csv.parser.columnPruning.enabled": "false",
}

_LOCAL_PARTITIONS = 8
_LOG4J = Path(__file__).with_name("log4j2.properties")


def _is_not_of_py4j(record: logging.LogRecord) -> bool:
    """By the root logger it writes traces of what it passes on."""
    return Path(record.pathname).parent.name != "py4j"


@contextmanager
def spark_session(master: str) -> Iterator[SparkSession]:
    """A session that ends with the block.

    Args:
        master: where to run; `spark-submit`, which starts the program with a gateway of its own, decides instead.
    """
    # Writes whole stack traces of errors that this program tells, or expects, itself.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(_is_not_of_py4j)
    builder = SparkSession.builder.appName("model-training prepare")
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        # Its tasks run in this program's environment, not in that of the first `python3` on the path.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        builder = builder.master(master).config("spark.ui.enabled", "false")
        builder = builder.config("spark.driver.extraJavaOptions", f"-Dlog4j2.configurationFile={_LOG4J.as_uri()}")
        # The line that it draws again and again is for a person; in a file it is noise.
        builder = builder.config("spark.ui.showConsoleProgress", str(sys.stderr.isatty()).lower())
        if master.startswith("local"):
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
            # Spark's 200 are for clusters: on one machine starting them takes longer than what they do.
            builder = builder.config("spark.sql.shuffle.partitions", _LOCAL_PARTITIONS)
    for key, value in _SETTINGS.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    if threading.current_thread() is threading.main_thread():
        # PySpark's own handler of Ctrl-C talks to the JVM in the midst of another talk, and fails with long traces.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield spark
    except (KeyboardInterrupt, Py4JNetworkError) as error:
        # Py4J tidies up after a Ctrl-C in the midst of a call, and where that fails passes on its own failure instead.
        if not isinstance(error, KeyboardInterrupt) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        with suppress(Py4JNetworkError):
            # What its threads say of being broken off is long, and of use to nobody.
            spark.sparkContext.setLogLevel("OFF")
        raise KeyboardInterrupt from None
    finally:
        with suppress(Py4JNetworkError):
            spark.stop()
