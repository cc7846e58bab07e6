"""Writes encoded rows as TFRecord shards, each written by one task and in order of time."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import functions as f

from model_training.data.examples import Examples
from model_training.data.identities import Identities
from model_training.data.manifest import sha256_of
from model_training.preparation.encoding import FLOATS, IDS, REQUEST, USER
from model_training.preparation.rows import KEY, LABEL, TIME_MS, WEIGHT
from model_training.runtime import load_tensorflow
from streamer.features import FeatureSpec, Layout

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

COMPRESSION = "GZIP"
SPLIT, SHARD = "split", "shard"

_SCHEMA = (
    "split string, shard int, path string, examples bigint, positives bigint, first_ms bigint, last_ms bigint,"
    " sha256 string, rows string"
)


@dataclass(slots=True)
class WrittenShard:
    """A shard that a task has written.

    `path` is absolute, times are in ms, `rows` is as in `Shard`.
    """

    split: str
    shard: int
    path: str
    examples: int
    positives: int
    first_ms: int
    last_ms: int
    sha256: str = ""
    rows: str = ""


def write_shards(rows: "DataFrame", spec: FeatureSpec, directory: Path, shards: int) -> list[WrittenShard]:
    """Writes encoded rows with a `SPLIT` to shards; a hash of the key chooses the shard.

    File names contain the task's attempt. If Spark repeats a task, the files of the failed attempt are not in the
    result. `directory` must be the same folder on all machines.
    """
    layout = Layout(spec)
    widths = layout.row_ids, layout.row_floats
    folder = str(directory.resolve())

    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        written = list(written_shards(batches, Path(folder), widths, TaskContext.get().taskAttemptId()))
        names = list(WrittenShard.__dataclass_fields__)
        columns = [[getattr(shard, name) for shard in written] for name in names]
        yield pa.RecordBatch.from_arrays(
            [pa.array(c, pa.int32() if n == "shard" else _kind(n)) for n, c in zip(names, columns, strict=True)], names
        )

    dealt = rows.withColumn(SHARD, f.pmod(f.xxhash64(KEY), f.lit(shards)).cast("int"))
    dealt = dealt.repartition(shards, SPLIT, SHARD).sortWithinPartitions(SPLIT, SHARD, TIME_MS, KEY, LABEL, IDS, FLOATS)
    found = dealt.select(SPLIT, SHARD, KEY, TIME_MS, LABEL, IDS, FLOATS, USER, REQUEST, WEIGHT)
    found = found.mapInArrow(task, _SCHEMA).collect()
    return sorted((WrittenShard(**row.asDict()) for row in found), key=lambda s: (s.split, s.shard))


def written_shards(
    batches: Iterator[pa.RecordBatch], directory: Path, widths: tuple[int, int], attempt: int
) -> Iterator[WrittenShard]:
    """Writes rows that are sorted by split and shard."""
    load_tensorflow()  # only tasks that write need it
    from tensorflow.io import TFRecordWriter  # noqa: PLC0415

    from model_training.data.records import serialized  # noqa: PLC0415

    current: WrittenShard | None = None
    writer: Any = None
    checksum = hashlib.sha256()
    try:
        for batch in batches:
            for part in _by_shard(batch):
                split, shard = part.column(SPLIT)[0].as_py(), part.column(SHARD)[0].as_py()
                times = part.column(TIME_MS).to_numpy()
                if current is None or (current.split, current.shard) != (split, shard):
                    if current is not None:
                        yield _closed(current, writer, checksum)
                    path = directory / f"{split}-{shard:05d}.{attempt}"
                    current = WrittenShard(split, shard, str(path), 0, 0, int(times[0]), int(times[0]))
                    writer, checksum = TFRecordWriter(str(path), COMPRESSION), hashlib.sha256()
                examples = _examples(part, widths)
                for record in serialized(examples):
                    writer.write(record)
                checksum.update(_identified(part))
                current.examples += part.num_rows
                current.positives += int(examples.labels.sum())
                current.last_ms = int(times[-1])
        if current is not None:
            yield _closed(current, writer, checksum)
    finally:
        if writer is not None:
            writer.close()


def _closed(shard: WrittenShard, writer: Any, rows: Any) -> WrittenShard:
    writer.close()
    shard.rows = rows.hexdigest()
    shard.sha256 = sha256_of(Path(shard.path))
    return shard


def _identified(rows: pa.RecordBatch) -> bytes:
    """Keys, times and labels, the same however the rows are cut into batches."""
    columns = (rows.column(name).to_pylist() for name in (KEY, TIME_MS, LABEL))
    return "".join(f"{key}\t{time}\t{label}\n" for key, time, label in zip(*columns, strict=True)).encode()


def _by_shard(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cuts a batch into runs of rows of one split and shard."""
    if not batch.num_rows:
        return
    shards = batch.column(SHARD).to_numpy()
    splits = batch.column(SPLIT).to_numpy(zero_copy_only=False)
    changes = np.flatnonzero((shards[1:] != shards[:-1]) | (splits[1:] != splits[:-1])) + 1
    for start, end in pairwise([0, *changes.tolist(), batch.num_rows]):
        yield batch.slice(start, end - start)


def _examples(rows: pa.RecordBatch, widths: tuple[int, int]) -> Examples:
    ids, floats = (b"".join(rows.column(name).to_pylist()) for name in (IDS, FLOATS))
    weights = rows.column(WEIGHT)
    users, requests, times = (rows.column(name).to_numpy() for name in (USER, REQUEST, TIME_MS))
    return Examples(
        np.frombuffer(ids, np.int32).reshape(-1, widths[0]),
        np.frombuffer(floats, np.float32).reshape(rows.num_rows, widths[1]),
        rows.column(LABEL).to_numpy().astype(np.int8),
        Identities(users.view(np.uint64), requests.view(np.uint64), times),
        None if weights.null_count else weights.to_numpy().astype(np.float32),
    )


def _kind(name: str) -> pa.DataType:
    return pa.string() if name in {"split", "path", "sha256", "rows"} else pa.int64()
