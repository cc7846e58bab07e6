"""Reads the files of one log: columns by name, CSV in the dialect of RFC 4180."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pyspark.sql import functions as f
from pyspark.sql import types as t

from model_training.config.preparation import TableSource
from model_training.preparation.rows import data_errors

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

CORRUPT = "_corrupt_record"
"""A column of text: the record, if it cannot be parsed. A frame without such a column has no such records."""

RFC_4180 = {"header": "true", "multiLine": "true", "quote": '"', "escape": '"'}
"""The default dialect as options of Spark's reader: a quote in quotes is doubled, and line breaks may be in quotes."""

_HEAD_BYTES = 2**16
_THREADS = 16  # a file system over a network takes milliseconds for each file
_WHOLE, _JOINER = "_whole", "\x01"
_UTF8_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class LogFiles:
    """The records of all files.

    Attributes:
        frame: one column for each name.
        lacking: for each column that not all files have, one file without it.
    """

    frame: "DataFrame"
    lacking: Mapping[str, str] = field(default_factory=dict)


def read_files(spark: "SparkSession", source: TableSource) -> LogFiles:
    """Reads the files of a table.

    Raises:
        DataError: they cannot be read.
    """
    with data_errors(", ".join(source.paths)):
        if source.format == "csv":
            return _read_csv(spark, source.paths, {**RFC_4180, **source.options})
        if source.format == "json":
            return LogFiles(spark.read.options(**source.options).json(list(source.paths)))
        # Without it, Spark takes the columns of any one file.
        options = {"mergeSchema": "true", **source.options}
        frame = spark.read.options(**options).parquet(*source.paths)
        with ThreadPoolExecutor(_THREADS) as pool:
            columns = list(pool.map(partial(_parquet_columns, spark), map(unquote, sorted(frame.inputFiles()))))
        return LogFiles(frame, _lacking(columns))


def _read_csv(spark: "SparkSession", paths: Sequence[str], given: Mapping[str, str]) -> LogFiles:
    options = {name.lower(): value for name, value in given.items()}
    groups: dict[bytes, list[str]] = {}
    if options["header"].lower() == "true":
        files = list(map(unquote, sorted(spark.read.text(list(paths)).inputFiles())))
        comment = options.get("comment", "").encode()
        with ThreadPoolExecutor(_THREADS) as pool:
            for file, head in zip(files, pool.map(partial(_head, spark), files), strict=True):
                if header := header_line(head, comment):
                    groups.setdefault(header, []).append(file)
    # Spark itself takes the columns of the first file and reads all others by position.
    parts = [list(map(_literal, group)) for group in groups.values()] if len(groups) > 1 else [list(paths)]
    frames: list[DataFrame] = []
    columns: list[list[str]] = []
    for part in parts:
        # One line is enough for the header; with several, Spark reads the whole file.
        of_header = options | {"multiline": "false"}
        schema = spark.read.options(**of_header).csv(part if len(parts) == 1 else part[:1]).schema
        columns.append(schema.names)
        # With this column in the schema, Spark marks the lines that do not fit the header.
        schema = t.StructType([*schema.fields, t.StructField(CORRUPT, t.StringType())])
        frame = spark.read.options(**options).schema(schema).csv(part)
        if options["multiline"].lower() == "true" and options["quote"]:
            sep = options.get("sep", options.get("delimiter", ",")).replace("\\t", "\t")
            frame = _with_open_quotes(frame, columns[-1], sep, options["quote"])
        frames.append(frame)
    union = reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), frames)
    return LogFiles(
        union, _lacking([(group[0], names) for group, names in zip(groups.values(), columns, strict=False)])
    )


def header_line(head: bytes, comment: bytes) -> bytes:
    """The first line of a file that is neither empty nor a comment; empty if there is none."""
    lines = head.removeprefix(_UTF8_MARK).splitlines()
    return next((line for line in lines if line.strip() and not (comment and line.startswith(comment))), b"")


def _with_open_quotes(frame: "DataFrame", columns: Sequence[str], sep: str, quote: str) -> "DataFrame":
    """Marks lines that are one record because a quote is not closed; each becomes a row.

    A value of such a record contains whole lines of the log, which would be lost without a count. They have all
    separators. Or the value still has its first quote.
    """
    # A column of its own is computed once. Few rows have a line break, and only they pay for the rest.
    frame = frame.withColumn(_WHOLE, f.concat_ws(_JOINER, *(f.col(_quoted(name)) for name in columns)))
    whole, corrupt = f.col(_WHOLE), f.col(CORRUPT)
    text = f.coalesce(corrupt, whole)
    has_break = f.contains(text, f.lit("\n"))
    line = rf"\n(?=[^\n]*(?:{re.escape(sep)}[^\n]*){{{max(2, len(columns) - 1)}}})"
    lines = f.when(has_break, f.regexp_count(text, f.lit(line))).otherwise(0)
    keeps_quote = whole.rlike(rf"(?:^|{_JOINER}){re.escape(quote)}[^{_JOINER}]*\n")
    record = f.when(has_break & ((lines > 0) | keeps_quote), text).otherwise(corrupt)
    records = f.when(lines > 0, f.array_repeat(record, lines + 1)).otherwise(f.array(record))
    return frame.withColumn(CORRUPT, f.explode(records)).drop(_WHOLE)


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"


def _lacking(files: Sequence[tuple[str, Sequence[str]]]) -> dict[str, str]:
    """One file without the column, for each column that only some files have; case is ignored."""
    every = {name.lower(): name for _, names in files for name in names}
    found: dict[str, str] = {}
    for file, names in files:
        present = {name.lower() for name in names}
        found |= {name: file for low, name in every.items() if low not in present}
    return found


def _head(spark: "SparkSession", file: str) -> bytes:
    """The first bytes of a file, uncompressed, from any file system that Spark reads."""
    jvm, path, settings = _path(spark, file)
    codec = jvm.org.apache.hadoop.io.compress.CompressionCodecFactory(settings).getCodec(path)
    with closing(path.getFileSystem(settings).open(path)) as stream:
        return bytes((stream if codec is None else codec.createInputStream(stream)).readNBytes(_HEAD_BYTES))


def _parquet_columns(spark: "SparkSession", file: str) -> tuple[str, list[str]]:
    jvm, path, settings = _path(spark, file)
    parquet = jvm.org.apache.parquet.hadoop
    with closing(parquet.ParquetFileReader.open(parquet.util.HadoopInputFile.fromPath(path, settings))) as reader:
        fields = reader.getFooter().getFileMetaData().getSchema().getFields()
        return file, [column.getName() for column in fields]


def _path(spark: "SparkSession", file: str) -> tuple[Any, Any, Any]:
    """The JVM, Hadoop's path of a file, and Hadoop's settings."""
    context: Any = spark.sparkContext
    jvm = context._jvm  # noqa: SLF001
    return jvm, jvm.org.apache.hadoop.fs.Path(file), context._jsc.hadoopConfiguration()  # noqa: SLF001


def last_modified_ms(spark: "SparkSession", files: Sequence[str]) -> int:
    """The time of the last change of any of the files, in ms since 1970."""

    def changed(file: str) -> int:
        _, path, settings = _path(spark, unquote(file))
        return int(path.getFileSystem(settings).getFileStatus(path).getModificationTime())

    with ThreadPoolExecutor(_THREADS) as pool:
        return max(pool.map(changed, files), default=0)


def _literal(path: str) -> str:
    """The pattern of exactly this path."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", path)
